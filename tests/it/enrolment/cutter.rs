//! A line that cuts renewals off when their answer comes, and lets everything else through.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Its threads end with the test's process.
pub(super) struct Cutter {
    pub(super) port: u16,
    cuts: Arc<AtomicBool>,
    lost: Arc<AtomicUsize>,
}

impl Cutter {
    pub(super) fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let cuts = Arc::new(AtomicBool::new(true));
        let lost = Arc::new(AtomicUsize::new(0));
        let (cutting, losing) = (Arc::clone(&cuts), Arc::clone(&lost));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, bank) = (client.unwrap(), TcpStream::connect(server).unwrap());
                let (cutting, losing) = (Arc::clone(&cutting), Arc::clone(&losing));
                std::thread::spawn(move || {
                    // A connection that ends in whatever way is over.
                    let _ = carry(client, bank, &cutting, &losing);
                });
            }
        });
        Self { port, cuts, lost }
    }

    /// How many answers were lost.
    pub(super) fn lost(&self) -> usize {
        self.lost.load(Ordering::SeqCst)
    }

    pub(super) fn heal(&self) {
        self.cuts.store(false, Ordering::SeqCst);
    }
}

/// In TLS 1.3 without tickets, what the bank says after the client's second flight is an answer.
fn carry(
    mut client: TcpStream,
    mut bank: TcpStream,
    cuts: &AtomicBool,
    lost: &AtomicUsize,
) -> std::io::Result<()> {
    let mut hello = vec![0; 65_536];
    let read = client.read(&mut hello)?;
    let hello = &hello[..read];
    let renewing = hello.windows(8).any(|part| part == b"enroll/1");
    bank.write_all(hello)?;
    let answering = Arc::new(AtomicBool::new(false));
    let (mut from, mut to, said) = (client.try_clone()?, bank.try_clone()?, answering.clone());
    std::thread::spawn(move || {
        let mut bytes = vec![0; 65_536];
        while let Ok(read @ 1..) = from.read(&mut bytes) {
            said.store(true, Ordering::SeqCst);
            if to.write_all(&bytes[..read]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
    let mut bytes = vec![0; 65_536];
    loop {
        let read = bank.read(&mut bytes)?;
        let answered = answering.load(Ordering::SeqCst) && read != 0;
        if renewing && answered && cuts.load(Ordering::SeqCst) {
            lost.fetch_add(1, Ordering::SeqCst);
            return client.shutdown(Shutdown::Both);
        }
        if read == 0 {
            return client.shutdown(Shutdown::Both);
        }
        client.write_all(&bytes[..read])?;
    }
}
