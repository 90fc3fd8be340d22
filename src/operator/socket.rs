//! The operator's socket: a Unix socket of mode 0600 that takes commands from its own user only.
//!
//! One command a connection: a frame of JSON each way, 4 bytes of length, big endian, before it.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::{Command, Desk, Report};
use crate::durable;
use crate::limits;

/// A bound socket; its file is removed when it is dropped.
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

impl Socket {
    /// Binds the socket, replacing a dead one; never anything else that is there.
    ///
    /// # Errors
    /// The system's; `AlreadyExists` where something else is there, `AddrInUse` where a server is.
    pub fn bind(path: &Path) -> io::Result<Self> {
        durable::make_folder(durable::folder_of(path))?;
        make_room(path)?;
        // The process's umask lets nobody else in even before the mode is set.
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        let identity = identity(path);
        Ok(Self {
            listener,
            path: path.to_owned(),
            identity,
        })
    }

    /// Serves staff until it is dropped.
    pub async fn serve(&self, desk: Arc<Desk>) {
        let places = Arc::new(Semaphore::new(limits::OPERATOR_CONNECTIONS_MAX));
        // The audit log has them all, or their count.
        let mut said_at = None;
        loop {
            let Ok((stream, _)) = self.listener.accept().await else {
                tokio::time::sleep(limits::ACCEPT_BACKOFF).await;
                continue;
            };
            let actor = match actor_of(&stream) {
                Ok(actor) => actor,
                Err(uid) => {
                    let recently = said_at.map(|said: Instant| said.elapsed());
                    if recently.is_none_or(|ago| ago >= limits::ACCEPT_WARNING_INTERVAL) {
                        said_at = Some(Instant::now());
                        tracing::warn!(uid, "another user was refused at the operator's socket");
                    }
                    drop(stream);
                    desk.note_stranger(uid).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                continue;
            };
            let (desk, here) = (Arc::clone(&desk), Handle::current());
            // Long lists become text and JSON there, and customers' thread does not wait for it.
            tokio::task::spawn_blocking(move || {
                if let Err(error) = here.block_on(answer(stream, &desk, &actor)) {
                    tracing::warn!(%error, "an operator's connection failed");
                }
                drop(place);
            });
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Another server may have put its own there since.
        if identity(&self.path) != self.identity {
            return;
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Removes a socket that nobody listens on.
fn make_room(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            let reason = "something that is no socket is there";
            Err(io::Error::new(io::ErrorKind::AlreadyExists, reason))
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            let reason = "another server listens there";
            Err(io::Error::new(io::ErrorKind::AddrInUse, reason))
        }
        Ok(_) => std::fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Which file stands at a path.
fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path)
        .map(|found| (found.dev(), found.ino()))
        .ok()
}

/// The peer's user, if it is the server's own (or root); else who it is, where that is known.
fn actor_of(stream: &UnixStream) -> Result<String, u32> {
    let peer = stream.peer_cred().map_err(|_| u32::MAX)?.uid();
    let own = rustix::process::geteuid().as_raw();
    if peer == own || peer == 0 {
        Ok(format!("uid {peer}"))
    } else {
        Err(peer)
    }
}

async fn answer(mut stream: UnixStream, desk: &Desk, actor: &str) -> io::Result<()> {
    let command: Command =
        timeout(limits::OPERATOR_REQUEST_TIMEOUT, receive(&mut stream)).await??;
    let staged = command.staged();
    let answered = perform(&mut stream, desk, (actor, command)).await;
    if let Some(staged) = staged {
        if answered.is_ok() {
            // Whoever asked brings the copy where it is wanted, and hangs up; so do the dead.
            let _ = timeout(limits::OPERATOR_ANSWER_TIMEOUT, stream.read_u8()).await;
        }
        let _ = std::fs::remove_file(staged);
    }
    answered
}

async fn perform(
    stream: &mut UnixStream,
    desk: &Desk,
    (actor, command): (&str, Command),
) -> io::Result<()> {
    let performing = desk.perform(actor, command);
    let report = timeout(limits::OPERATOR_ANSWER_TIMEOUT, performing).await?;
    timeout(limits::OPERATOR_REQUEST_TIMEOUT, send(stream, &report)).await?
}

/// A server's answer. A copy of the store that it speaks of stays until this is dropped.
pub struct Answered {
    /// What it says.
    pub report: Report,
    _stream: UnixStream,
}

/// Asks the server behind the socket; `None` where none listens.
///
/// # Errors
/// The system's, once a server has been reached.
pub async fn ask(path: &Path, command: &Command) -> io::Result<Option<Answered>> {
    let mut stream = match UnixStream::connect(path).await {
        Ok(stream) => stream,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    timeout(limits::OPERATOR_REQUEST_TIMEOUT, send(&mut stream, command)).await??;
    let report = timeout(limits::OPERATOR_ANSWER_TIMEOUT, receive(&mut stream)).await??;
    Ok(Some(Answered {
        report,
        _stream: stream,
    }))
}

async fn send(stream: &mut UnixStream, message: &impl Serialize) -> io::Result<()> {
    let payload = serde_json::to_vec(message)?;
    if payload.len() > limits::OPERATOR_FRAME_BYTES_MAX {
        let reason = "too much for a running server; stop it and do this again";
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
    }
    let length = u32::try_from(payload.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(&payload).await?;
    stream.flush().await
}

async fn receive<T: DeserializeOwned>(stream: &mut UnixStream) -> io::Result<T> {
    let length = usize::try_from(stream.read_u32().await?).unwrap_or(usize::MAX);
    if length > limits::OPERATOR_FRAME_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut payload = Vec::new();
    stream
        .take(u64::try_from(length).unwrap_or(u64::MAX))
        .read_to_end(&mut payload)
        .await?;
    if payload.len() != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(&payload)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_takes_the_place_of_a_dead_one_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("operator.sock");
        std::fs::write(&path, b"a ledger, say").unwrap();
        let refused = Socket::bind(&path).err().map(|error| error.kind());
        assert_eq!(refused, Some(io::ErrorKind::AlreadyExists));
        assert_eq!(std::fs::read(&path).unwrap(), b"a ledger, say");
        std::fs::remove_file(&path).unwrap();
        let living = Socket::bind(&path).unwrap();
        let refused = Socket::bind(&path).err().map(|error| error.kind());
        assert_eq!(refused, Some(io::ErrorKind::AddrInUse));
        drop(living);
        assert!(!path.exists());
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists() && Socket::bind(&path).is_ok());
    }
}
