//! Files in the shared media directory: written chunk by chunk to a temporary name, synced, renamed; read chunk by chunk.
//! Every call to the file system runs on a thread that may be lost to a mount that hangs; how many, is bounded.

use std::fs::{File, Permissions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use crate::sys::{beneath, clock, room};

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
    /// Free space that stays, in bytes.
    free_min: u64,
    /// Bytes that uploads of this process hold in memory, and will write.
    in_flight: Arc<AtomicU64>,
}

impl Files {
    /// Touches nothing.
    pub fn new(directory: &Path) -> Self {
        Self::keeping(directory, 0)
    }

    /// The same with free space that stays: whoever sends files cannot fill the disk. It is looked at for each chunk, since others write
    /// there, too.
    pub fn keeping(directory: &Path, free_min: u64) -> Self {
        Self {
            directory: directory.to_owned(),
            calls: Arc::new(Semaphore::new(CALLS_MAX)),
            free_min,
            in_flight: Arc::default(),
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
        let len = bytes.len() as u64;
        self.files.in_flight.fetch_add(len, Ordering::Relaxed);
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
        let (at, free_min) = (self.files.directory.clone(), self.files.free_min);
        // Those of this chunk, and of all others that wait.
        let len = chunk.len() as u64;
        let coming = self.files.in_flight.fetch_sub(len, Ordering::Relaxed);
        let written = self.files.call(move || {
            if free_min > 0 && room::free_bytes(&at).is_some_and(|free| free < free_min + coming) {
                return Err(io::ErrorKind::StorageFull.into());
            }
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
        let waiting = self.waiting.len() as u64;
        self.files.in_flight.fetch_sub(waiting, Ordering::Relaxed);
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
#[path = "file_tests.rs"]
mod tests;
