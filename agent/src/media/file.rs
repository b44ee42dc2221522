//! Files in the shared media directory: written chunk by chunk to a temporary name, synced, renamed; read chunk by chunk.
//! Every call to the file system runs on a thread that may be lost to a mount that hangs; how many, is bounded.

use std::fs::{File, Permissions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use crate::sys::{beneath, clock};

/// Calls at once. One that hangs keeps its place, so that a dead mount takes this many threads and no more.
const CALLS_MAX: usize = 16;
/// How long one call may take, the wait for a place included.
const CALL_WITHIN: Duration = Duration::from_secs(5);
/// What one call reads or writes.
const CHUNK_LEN: usize = 256 << 10;
/// For the roles, which share a group.
const MODE: u32 = 0o660;

/// Why a file could not be handled.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("the media directory does not answer")]
    Hangs,
    #[error("the media directory: {0}")]
    Io(#[from] io::Error),
    #[error("longer than {0} bytes")]
    TooLong(u64),
}

/// The directory.
#[derive(Clone)]
pub struct Files {
    directory: PathBuf,
    calls: Arc<Semaphore>,
}

impl Files {
    /// Touches nothing.
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            calls: Arc::new(Semaphore::new(CALLS_MAX)),
        }
    }

    /// Runs one call; given up, it goes on alone and keeps its place until the kernel lets it go.
    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, FileError> {
        let calls = Arc::clone(&self.calls);
        let whole = async move {
            let place = calls.acquire_owned().await;
            let done = tokio::task::spawn_blocking(move || {
                let done = work();
                drop(place);
                done
            });
            done.await.map_err(io::Error::other)?
        };
        match tokio::time::timeout(CALL_WITHIN, whole).await {
            Ok(done) => Ok(done?),
            Err(_) => Err(FileError::Hangs),
        }
    }

    /// Ids are UUIDs; nothing else becomes part of a path. Two letters of it are a folder: directories stay short.
    fn path(&self, id: &str) -> io::Result<PathBuf> {
        Ok(self.directory.join(name(id)?))
    }

    /// Begins a file of at most `limit` bytes; nobody sees it before [`Upload::finish`].
    ///
    /// # Errors
    /// [`FileError`].
    pub async fn create(&self, id: &str, limit: u64) -> Result<Upload, FileError> {
        self.begin(id, id, limit).await
    }

    /// The same for a file that others may have begun, also where they died over it: whoever is the last to end has it.
    ///
    /// # Errors
    /// [`FileError`].
    pub async fn create_anew(&self, id: &str, limit: u64) -> Result<Upload, FileError> {
        let part = uuid::Uuid::new_v4().hyphenated().to_string();
        self.begin(id, &part, limit).await
    }

    async fn begin(&self, id: &str, part: &str, limit: u64) -> Result<Upload, FileError> {
        let path = self.path(id)?;
        let temporary = self.path(part)?.with_extension("part");
        let directory = self.directory.clone();
        let (id, name) = (name(id)?, name(part)?.with_extension("part"));
        let file = self
            .call(move || {
                let folders = [id.parent(), name.parent()];
                for folder in folders.into_iter().flatten() {
                    shared_folder(&directory, &directory.join(folder))?;
                }
                let file = beneath::create(&directory, &name, MODE)?;
                // For the other roles, whatever the mask of this process is. A file system without modes has its own.
                let _ = file.set_permissions(Permissions::from_mode(MODE));
                Ok(file)
            })
            .await?;
        Ok(Upload {
            files: self.clone(),
            file: Some(file),
            temporary,
            path,
            hash: Sha256::new(),
            waiting: BytesMut::new(),
            bytes: 0,
            limit,
        })
    }

    /// Opens a file; `None`: it is not there.
    ///
    /// # Errors
    /// [`FileError`].
    pub async fn open(&self, id: &str) -> Result<Option<Reader>, FileError> {
        let (directory, name) = (self.directory.clone(), name(id)?);
        let opened = self.call(move || {
            // Whoever may write there could make another role send what only that role may read.
            let file = beneath::open(&directory, &name)?;
            let length = file.metadata()?.len();
            Ok((file, length))
        });
        match opened.await {
            Ok((file, length)) => Ok(Some(Reader {
                files: self.clone(),
                file: Some(file),
                length,
                left: length,
            })),
            Err(FileError::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes a file; one that is gone already is no error.
    ///
    /// # Errors
    /// [`FileError`].
    pub async fn delete(&self, id: &str) -> Result<(), FileError> {
        let path = self.path(id)?;
        self.call(move || match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
        .await
    }
}

/// Folders of the directory: the first two letters of an id.
pub const FOLDERS: u16 = 256;

/// The end of the name of an upload that is not finished.
const PART: &str = ".part";

/// A file that may be left over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOver {
    path: PathBuf,
    /// The id that it has the name of; `None`: an upload that was not finished.
    pub id: Option<String>,
}

/// What a file of this name and age may be left over from; `None`: nothing.
fn left_over(
    name: &str,
    age_s: u64,
    (part, whole): (Duration, Duration),
) -> Option<Option<String>> {
    let (stem, ended) = match name.strip_suffix(PART) {
        Some(stem) => (stem, false),
        None => (name, true),
    };
    let id = uuid::Uuid::try_parse(stem).ok()?.hyphenated().to_string();
    let longest = if ended { whole } else { part };
    (id == stem && age_s > longest.as_secs()).then_some(ended.then_some(id))
}

impl Files {
    /// Files of one folder that nobody has written to for so long: unfinished uploads for the first, whole files for the second.
    ///
    /// # Errors
    /// [`FileError`].
    pub async fn left_over(
        &self,
        folder: u16,
        ages: (Duration, Duration),
    ) -> Result<Vec<LeftOver>, FileError> {
        self.find(folder, ages, ("", usize::MAX)).await
    }

    /// Uploads of one folder that nobody has written to for so long, at most so many. Asks for the age of no other file.
    ///
    /// # Errors
    /// [`FileError`].
    pub async fn unfinished(
        &self,
        folder: u16,
        age: Duration,
        limit: usize,
    ) -> Result<Vec<LeftOver>, FileError> {
        self.find(folder, (age, Duration::MAX), (PART, limit)).await
    }

    /// What is left over of files whose names end so, at most so many.
    async fn find(
        &self,
        folder: u16,
        ages: (Duration, Duration),
        (ending, limit): (&'static str, usize),
    ) -> Result<Vec<LeftOver>, FileError> {
        let folder = self.directory.join(format!("{folder:02x}"));
        let now_s = clock::wall_ms() / 1000;
        self.call(move || {
            let entries = match std::fs::read_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                entries => entries?,
            };
            let mut found = Vec::new();
            for entry in entries {
                let entry = entry?;
                let name = entry.file_name();
                if found.len() >= limit {
                    break;
                }
                if !name.to_str().is_some_and(|name| name.ends_with(ending)) {
                    continue;
                }
                // Of the link, if it is one: where that leads is no business of ours.
                let Ok(about) = entry.metadata() else {
                    continue;
                };
                let written_s = u64::try_from(about.mtime()).unwrap_or(0);
                let age_s = now_s.saturating_sub(written_s);
                let id = name.to_str().and_then(|name| left_over(name, age_s, ages));
                if let Some(id) = id.filter(|_| about.is_file()) {
                    let path = entry.path();
                    found.push(LeftOver { path, id });
                }
            }
            Ok(found)
        })
        .await
    }

    /// Deletes one of them. False: it was gone.
    ///
    /// # Errors
    /// [`FileError`].
    pub async fn delete_left_over(&self, file: &LeftOver) -> Result<bool, FileError> {
        let path = file.path.clone();
        self.call(move || match std::fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            done => done.map(|()| true),
        })
        .await
    }
}

/// Where the file of an id lies in the directory.
fn name(id: &str) -> io::Result<PathBuf> {
    let id = uuid::Uuid::try_parse(id).map_err(io::Error::other)?;
    let name = id.hyphenated().to_string();
    Ok(Path::new(&name[..2]).join(&name))
}

/// Makes a folder that the group of `directory` may use, whatever the mask of this process is.
fn shared_folder(directory: &Path, folder: &Path) -> io::Result<()> {
    match std::fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        made => made?,
    }
    let inherited = std::fs::metadata(directory)?.mode() & 0o2000;
    let open = |mode| std::fs::set_permissions(folder, Permissions::from_mode(mode));
    // RestrictSUIDSGID= of the units refuses that bit; the roles' own group is the same one.
    if open(0o770 | inherited).is_err() {
        let _ = open(0o770);
    }
    Ok(())
}

/// A file that is being written. Dropped before its end, it is removed.
pub struct Upload {
    files: Files,
    file: Option<File>,
    temporary: PathBuf,
    path: PathBuf,
    hash: Sha256,
    /// Less than a chunk.
    waiting: BytesMut,
    bytes: u64,
    limit: u64,
}

impl Upload {
    /// Takes some bytes; writes whenever a chunk is full.
    ///
    /// # Errors
    /// [`FileError`]; the upload is of no use after that.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), FileError> {
        self.bytes += bytes.len() as u64;
        if self.bytes > self.limit {
            return Err(FileError::TooLong(self.limit));
        }
        self.hash.update(&bytes);
        self.waiting.extend_from_slice(&bytes);
        if self.waiting.len() >= CHUNK_LEN {
            self.flush(false).await?;
        }
        Ok(())
    }

    async fn flush(&mut self, last: bool) -> Result<(), FileError> {
        let chunk = self.waiting.split().freeze();
        let gone = || io::Error::other("an earlier write failed");
        let mut file = self.file.take().ok_or_else(gone)?;
        let written = self.files.call(move || {
            file.write_all(&chunk)?;
            if last {
                file.sync_all()?;
            }
            Ok(file)
        });
        self.file = Some(written.await?);
        Ok(())
    }

    /// The digest of what was written so far, in hexadecimal.
    pub fn sha256(&self) -> String {
        hex::encode(self.hash.clone().finalize())
    }

    /// Writes the rest, syncs, gives the file its name; length and digest in hexadecimal.
    ///
    /// # Errors
    /// [`FileError`]; the file is not there then.
    pub async fn finish(mut self) -> Result<(u64, String), FileError> {
        self.flush(true).await?;
        let (from, to) = (self.temporary.clone(), self.path.clone());
        self.files
            .call(move || {
                std::fs::rename(from, &to)?;
                match to.parent() {
                    Some(folder) => File::open(folder)?.sync_all(),
                    None => Ok(()),
                }
            })
            .await?;
        self.file = None;
        let digest = std::mem::take(&mut self.hash).finalize();
        Ok((self.bytes, hex::encode(digest)))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(file) = self.file.take() else { return };
        let (files, temporary) = (self.files.clone(), self.temporary.clone());
        // Without a runtime the process ends: the name says that the file is not whole.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let removed = files.call(move || {
                    drop(file);
                    std::fs::remove_file(temporary)
                });
                let _ = removed.await;
            });
        }
    }
}

/// A file that is being read.
pub struct Reader {
    files: Files,
    file: Option<File>,
    length: u64,
    /// What is still to come, at most.
    left: u64,
}

impl Reader {
    /// Its length in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Goes to the byte `first`, the first of `length` that are to come.
    ///
    /// # Errors
    /// [`FileError`]; nothing comes after that.
    pub async fn part(&mut self, first: u64, length: u64) -> Result<(), FileError> {
        let Some(mut file) = self.file.take() else {
            return Ok(());
        };
        let sought = self.files.call(move || {
            file.seek(SeekFrom::Start(first))?;
            Ok(file)
        });
        self.file = Some(sought.await?);
        self.left = length;
        Ok(())
    }

    /// The next chunk; `None` at the end.
    ///
    /// # Errors
    /// [`FileError`]; nothing more comes after that.
    pub async fn next(&mut self) -> Result<Option<Bytes>, FileError> {
        let Some(mut file) = self.file.take() else {
            return Ok(None);
        };
        let wanted = usize::try_from(self.left).map_or(CHUNK_LEN, |left| left.min(CHUNK_LEN));
        let read = self.files.call(move || {
            let mut chunk = vec![0u8; wanted];
            let length = file.read(&mut chunk)?;
            chunk.truncate(length);
            Ok((file, Bytes::from(chunk)))
        });
        let (file, chunk) = read.await?;
        if chunk.is_empty() {
            return Ok(None);
        }
        self.left -= chunk.len() as u64;
        self.file = Some(file);
        Ok(Some(chunk))
    }

    /// The rest as a stream, for a body.
    pub fn into_stream(self) -> impl futures_util::Stream<Item = io::Result<Bytes>> + Send {
        futures_util::stream::unfold(self, |mut reader| async move {
            let chunk = reader.next().await.map_err(io::Error::other).transpose()?;
            Some((chunk, reader))
        })
    }
}

#[cfg(test)]
mod tests {
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
}
