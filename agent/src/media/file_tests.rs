//! Tests of files in the shared directory: whole or not there, written anew, refused where the disk is nearly full.

use super::*;

const ID: &str = "f043afd0-0000-4000-8000-000000000001";

/// Goal: what was written is read; nobody sees a file before its end; one that is given up leaves nothing.
#[tokio::test]
async fn files_are_whole_or_not_there() {
    let place = tempfile::tempdir().expect("a directory");
    let files = Files::new(place.path());
    let mut upload = files.create(ID, 1 << 20).await.expect("begun");
    let part = Bytes::from(vec![7u8; 300 << 10]);
    upload.write(part.clone()).await.expect("written");
    upload.write(part.clone()).await.expect("written");
    assert!(files.open(ID).await.expect("asked").is_none());
    let (bytes, digest) = upload.finish().await.expect("finished");
    let whole = [part.clone(), part].concat();
    assert_eq!(bytes, whole.len() as u64);
    assert_eq!(digest, hex::encode(Sha256::digest(&whole)));
    let mut reader = files.open(ID).await.expect("asked").expect("there");
    let mut read = Vec::new();
    while let Some(chunk) = reader.next().await.expect("readable") {
        assert!(chunk.len() <= CHUNK_LEN);
        read.extend_from_slice(&chunk);
    }
    assert!(read == whole);
    files.delete(ID).await.expect("deleted");
    files.delete(ID).await.expect("gone already");

    let mut given_up = files.create(ID, 10).await.expect("begun");
    let long = given_up.write(Bytes::from_static(b"12345678901")).await;
    assert!(matches!(long, Err(FileError::TooLong(10))), "{long:?}");
    drop(given_up);
    let folder = place.path().join("f0");
    for _ in 0..1000 {
        if std::fs::read_dir(&folder).expect("a folder").count() == 0 {
            return;
        }
        crate::sys::clock::sleep(Duration::from_millis(5)).await;
    }
    panic!("a part was left");
}

/// Goal: a file whose writer died over it can be written again, and so can one that two write at once. Method: one that is
/// never finished, then two more of the same id.
#[tokio::test]
async fn a_file_can_be_begun_anew() {
    let place = tempfile::tempdir().expect("a directory");
    let files = Files::new(place.path());
    std::fs::create_dir_all(place.path().join("f0")).expect("made");
    std::fs::write(place.path().join("f0").join(format!("{ID}.part")), "x").expect("left");
    assert!(files.create(ID, 9).await.is_err(), "somebody writes it");
    let mut first = files.create_anew(ID, 9).await.expect("begun");
    let mut second = files.create_anew(ID, 9).await.expect("begun");
    for one in [&mut first, &mut second] {
        one.write(Bytes::from_static(b"same"))
            .await
            .expect("written");
        assert_eq!(one.sha256(), hex::encode(Sha256::digest(b"same")));
    }
    first.finish().await.expect("finished");
    second.finish().await.expect("finished");
    let reader = files.open(ID).await.expect("asked").expect("there");
    assert_eq!(reader.length(), 4);
}

/// Goal: a role cannot make another one send, or write over, what only that one may read. Method: links in the place of a
/// file and of a folder.
#[tokio::test]
async fn planted_links_are_not_followed() {
    let place = tempfile::tempdir().expect("a directory");
    let (shared, own) = (place.path().join("shared"), place.path().join("own"));
    std::fs::create_dir_all(shared.join("f0")).expect("made");
    std::fs::create_dir(&own).expect("made");
    std::fs::write(own.join("secret"), "s").expect("written");
    std::os::unix::fs::symlink(own.join("secret"), shared.join("f0").join(ID)).expect("linked");
    std::os::unix::fs::symlink(&own, shared.join("e0")).expect("linked");
    let files = Files::new(&shared);
    assert!(files.open(ID).await.is_err());
    let other = ID.replace("f0", "e0");
    assert!(files.create(&other, 1).await.is_err());
    assert_eq!(std::fs::read_dir(&own).expect("read").count(), 1);
}

/// Goal: only files of ours that are old enough are left over: another's file, a link and a young upload stay. Method: ages
/// by hand, then a folder with one of each.
#[tokio::test]
async fn what_is_left_over_is_found() {
    let ages = (Duration::from_secs(10), Duration::from_secs(100));
    let part = format!("{ID}.part");
    assert_eq!(left_over(&part, 11, ages), Some(None));
    assert_eq!(left_over(&part, 10, ages), None);
    assert_eq!(left_over(ID, 101, ages), Some(Some(ID.to_owned())));
    assert_eq!(left_over(ID, 100, ages), None);
    for other in ["", "notes.txt", ".wa-agent-export", &ID.to_uppercase()] {
        assert_eq!(left_over(other, u64::MAX, ages), None, "{other}");
    }
    let place = tempfile::tempdir().expect("a directory");
    let (files, folder) = (Files::new(place.path()), place.path().join(&ID[..2]));
    std::fs::create_dir(&folder).expect("made");
    for name in [ID, &part, "notes.txt"] {
        std::fs::write(folder.join(name), "x").expect("written");
    }
    let link = ID.replace("-4", "-5");
    std::os::unix::fs::symlink("/etc/passwd", folder.join(&link)).expect("made");
    let at = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for name in [ID, &part, "notes.txt"] {
        let file = File::options()
            .write(true)
            .open(folder.join(name))
            .expect("there");
        file.set_modified(at).expect("old");
    }
    let number = u16::from_str_radix(&ID[..2], 16).expect("hexadecimal");
    let found = files.left_over(number, ages).await.expect("read");
    assert_eq!(found.len(), 2, "{found:?}");
    for file in &found {
        assert!(files.delete_left_over(file).await.expect("deleted"));
        assert!(!files.delete_left_over(file).await.expect("gone"));
    }
    assert_eq!(std::fs::read_dir(&folder).expect("read").count(), 2);
    let young = files.left_over(number, ages).await.expect("read");
    assert_eq!(young, []);
    assert!(
        files
            .left_over(0x1f, ages)
            .await
            .expect("no folder")
            .is_empty()
    );
}

#[tokio::test]
async fn only_ids_become_paths() {
    let place = tempfile::tempdir().expect("a directory");
    let files = Files::new(place.path());
    for id in ["../../etc/passwd", "", "f043afd0", ".wa-agent-export"] {
        assert!(files.open(id).await.is_err(), "{id}");
        assert!(files.create(id, 1).await.is_err(), "{id}");
    }
}

/// Goal: whoever sends files cannot fill the disk, and what is refused leaves nothing in the count. Method: more free space to keep than
/// there is; a file of several chunks, and one that is given up before it is written.
#[tokio::test]
async fn free_space_is_kept() {
    let place = tempfile::tempdir().expect("a directory");
    let files = Files::keeping(place.path(), u64::MAX / 2);
    let mut upload = files.create_anew(ID, 1 << 30).await.expect("begun");
    let chunk = Bytes::from(vec![7u8; CHUNK_LEN]);
    match upload.write(chunk).await {
        Err(FileError::Io(error)) => assert_eq!(error.kind(), io::ErrorKind::StorageFull),
        other => panic!("{other:?}"),
    }
    drop(upload);
    let mut small = files.create_anew(ID, 1 << 30).await.expect("begun");
    let part = Bytes::from_static(b"a few bytes");
    small.write(part).await.expect("it waits in memory");
    assert_eq!(files.in_flight.load(Ordering::Relaxed), 11);
    assert!(small.finish().await.is_err());
    let given_up = Files::keeping(place.path(), 1);
    let mut upload = given_up.create_anew(ID, 1 << 30).await.expect("begun");
    upload.write(Bytes::from_static(b"x")).await.expect("kept");
    drop(upload);
    for files in [files, given_up] {
        assert_eq!(files.in_flight.load(Ordering::Relaxed), 0);
    }
}
