//! A terminal that a test plays: over real TLS, every wait with a deadline.

use std::net::SocketAddr;
use std::time::Duration;

use atm_bank::wire::answer::Answer;
use serde_json::{Value, json};
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::{Card, in_time};

/// A connection to the bank.
pub(crate) struct Terminal {
    stream: Box<TlsStream<TcpStream>>,
    last_id: u64,
}

/// An answer, as its bytes and as the library reads it.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) payload: Vec<u8>,
    pub(crate) answer: Answer,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With close_notify.
    Clean,
    /// Without.
    Cut,
}

impl Terminal {
    /// Connects; the handshake must succeed.
    pub(crate) async fn connect(address: SocketAddr, card: Card) -> Self {
        Self::over(card.connect(address).await.unwrap())
    }

    /// A terminal over a connection that is there already.
    pub(crate) fn over(stream: TlsStream<TcpStream>) -> Self {
        Self {
            stream: Box::new(stream),
            last_id: 0,
        }
    }

    /// The connection itself.
    pub(crate) fn into_stream(self) -> TlsStream<TcpStream> {
        *self.stream
    }

    /// The TLS below.
    pub(crate) fn tls(&self) -> &rustls::ClientConnection {
        self.stream.get_ref().1
    }

    /// Sends bytes as they are.
    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.try_send_bytes(bytes).await.unwrap();
    }

    /// As [`Terminal::send_bytes`], where the server may be gone.
    pub(crate) async fn try_send_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        in_time("bytes to be taken", self.stream.write_all(bytes)).await?;
        in_time("bytes to be sent", self.stream.flush()).await
    }

    /// Sends a payload as a frame.
    pub(crate) async fn send(&mut self, payload: &[u8]) {
        self.send_bytes(&framed(payload)).await;
    }

    /// The next answer; there must be one.
    pub(crate) async fn receive(&mut self) -> Reply {
        self.try_receive().await.unwrap()
    }

    /// The next answer, or the connection's end.
    pub(crate) async fn try_receive(&mut self) -> std::io::Result<Reply> {
        let length = in_time("an answer", self.stream.read_u32()).await?;
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        in_time("an answer's rest", self.stream.read_exact(&mut payload)).await?;
        let answer = Answer::parse(&payload)
            .unwrap_or_else(|| panic!("no answer: {}", String::from_utf8_lossy(&payload)));
        Ok(Reply { payload, answer })
    }

    /// Asks for `op` with these members and gives the answer, which must be to this request.
    pub(crate) async fn ask(&mut self, op: &str, members: Value) -> Reply {
        self.try_ask(op, members).await.unwrap()
    }

    /// As [`Terminal::ask`], where the connection may end instead.
    pub(crate) async fn try_ask(&mut self, op: &str, members: Value) -> std::io::Result<Reply> {
        self.last_id += 1;
        let request = request(self.last_id, op, members);
        self.try_send_bytes(&framed(request.to_string().as_bytes()))
            .await?;
        let reply = self.try_receive().await?;
        // A full server says so before it has read anything.
        let wanted = Some(self.last_id).filter(|_| reply.code() != 41);
        assert_eq!(reply.answer.id, wanted, "{op}: {reply:?}");
        Ok(reply)
    }

    pub(crate) async fn ping(&mut self) -> Reply {
        self.ask("ping", json!({})).await
    }

    pub(crate) async fn login(&mut self, account: &str, pin: &str) -> Reply {
        self.ask("login", json!({ "account": account, "pin": pin }))
            .await
    }

    pub(crate) async fn balance(&mut self) -> Reply {
        self.ask("balance", json!({})).await
    }

    /// Deposits under a new key.
    pub(crate) async fn deposit(&mut self, amount: i64) -> Reply {
        self.keyed("deposit", amount, &super::key()).await
    }

    /// Withdraws under a new key.
    pub(crate) async fn withdraw(&mut self, amount: i64) -> Reply {
        self.keyed("withdraw", amount, &super::key()).await
    }

    /// `deposit`, `withdraw` or `authorize` under this key.
    pub(crate) async fn keyed(&mut self, op: &str, amount: i64, key: &str) -> Reply {
        self.ask(op, json!({ "amount": amount, "key": key })).await
    }

    /// Transfers under a new key.
    pub(crate) async fn transfer(&mut self, to: &str, amount: i64) -> Reply {
        let members = json!({ "to": to, "amount": amount, "key": super::key() });
        self.ask("transfer", members).await
    }

    pub(crate) async fn history(&mut self, limit: u8) -> Reply {
        self.ask("history", json!({ "limit": limit })).await
    }

    pub(crate) async fn change_pin(&mut self, pin: &str, new_pin: &str) -> Reply {
        self.ask("change_pin", json!({ "pin": pin, "new_pin": new_pin }))
            .await
    }

    pub(crate) async fn logout(&mut self) -> Reply {
        self.ask("logout", json!({})).await
    }

    /// The server closes now; not one byte more may come.
    pub(crate) async fn expect_end(&mut self) -> Ending {
        let mut more = Vec::new();
        let ended = in_time("the connection's end", self.stream.read_to_end(&mut more)).await;
        assert!(more.is_empty(), "{}", String::from_utf8_lossy(&more));
        match ended {
            Ok(_) => Ending::Clean,
            Err(_) => Ending::Cut,
        }
    }

    /// Leaves with close_notify, and waits until the server has closed too.
    pub(crate) async fn close(mut self) {
        let _ = in_time("close_notify to be sent", self.stream.shutdown()).await;
        self.expect_end().await;
    }

    /// The connection is reset, as when a machine loses its power and comes back.
    pub(crate) fn reset(self) {
        let (tcp, _) = self.into_stream().into_inner();
        SockRef::from(&tcp)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }

    /// The connection just ends, without close_notify.
    pub(crate) fn vanish(self) {
        drop(self.into_stream().into_inner());
    }
}

/// A request as JSON.
pub(crate) fn request(id: u64, op: &str, members: Value) -> Value {
    let mut request = json!({ "id": id, "op": op });
    let Value::Object(members) = members else {
        panic!("members are an object");
    };
    request.as_object_mut().unwrap().extend(members);
    request
}

/// A payload as a frame.
pub(crate) fn framed(payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes().to_vec();
    frame.extend_from_slice(payload);
    frame
}

impl Reply {
    /// The code's number.
    pub(crate) fn code(&self) -> u16 {
        self.answer.code.number()
    }

    /// Checks the code.
    #[track_caller]
    pub(crate) fn expect_code(self, code: u16) -> Self {
        assert_eq!(self.code(), code, "{}", self.text());
        self
    }

    /// The payload as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    /// The balance, which must be there.
    #[track_caller]
    pub(crate) fn balance(&self) -> i64 {
        self.answer.members.balance.unwrap()
    }

    /// Balance and what is available.
    #[track_caller]
    pub(crate) fn balances(&self) -> (i64, i64) {
        (self.balance(), self.answer.members.available.unwrap())
    }

    /// The hold's name, which must be there.
    #[track_caller]
    pub(crate) fn hold(&self) -> String {
        self.answer.members.hold.clone().unwrap()
    }

    /// Whether it is the first answer again.
    pub(crate) fn replayed(&self) -> bool {
        self.answer.members.replayed == Some(true)
    }
}
