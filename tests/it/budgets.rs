//! What a peer sends before it has asked for anything: over its budgets it is read later.

use std::time::{Duration, Instant};

use serde_json::json;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::support::terminal::{framed, request};
use crate::support::{Card, Monitor, Site, in_time, recruit};

/// The least that may come at once, and little in the long run.
const SLOW: [(&str, &str); 2] = [
    ("limits.records_per_second", "50"),
    ("limits.record_burst", "1"),
];
/// So many records may come at once then: two frames of the largest size.
const AT_ONCE: u64 = 34;

/// Updates of keys, as many as TLS takes in a row, and one octet, without end; until the bank closes.
async fn renew_keys(stream: &mut TlsStream<TcpStream>) -> std::io::Result<()> {
    // What the bank does not take must not pile up in the kernel.
    SockRef::from(stream.get_ref().0).set_send_buffer_size(4_096)?;
    let frame = 4_096_u32.to_be_bytes();
    for octet in frame.into_iter().chain(std::iter::repeat(b' ')) {
        for _ in 0..32 {
            let tls = stream.get_mut().1;
            tls.refresh_traffic_keys().map_err(std::io::Error::other)?;
        }
        stream.write_all(&[octet]).await?;
        stream.flush().await?;
    }
    Ok(())
}

/// A request, each octet in a record of its own.
async fn in_octets(stream: &mut (impl tokio::io::AsyncWrite + Unpin), bytes: &[u8]) {
    for octet in bytes {
        in_time("an octet", stream.write_all(&[*octet]))
            .await
            .unwrap();
        in_time("an octet", stream.flush()).await.unwrap();
    }
}

#[tokio::test]
async fn a_request_in_too_many_records_is_answered_late_and_its_frame_is_not_too_slow() {
    let mut settings = SLOW.to_vec();
    settings.push(("server.frame_timeout_ms", "500"));
    let monitor = Monitor::free();
    let listen = monitor.setting();
    settings.push(("metrics.listen", &listen));
    let site = Site::with(&settings);
    let server = site.start();
    let mut terminal = server.terminal("terminal-1").await;
    // What comes together with the end of the handshake is not paid for: let it be over.
    terminal.ping().await.expect_code(0);
    let mut terminal = terminal.into_stream();
    let padded = format!("{:150}", request(1, "ping", json!({})).to_string());
    let asked = framed(padded.as_bytes());
    let began = Instant::now();
    in_octets(&mut terminal, &asked).await;
    let mut answer = [0; 16];
    in_time("the answer", terminal.read_exact(&mut answer))
        .await
        .unwrap();
    assert!(answer.ends_with(br#"{"id":1,"cod"#), "{answer:?}");
    let over = u64::try_from(asked.len()).unwrap() - AT_ONCE - 32;
    let least = Duration::from_millis(over * 1_000 / 50);
    assert!(began.elapsed() >= least, "{:?}", began.elapsed());
    let delayed = r#"bank_reads_delayed_total{budget="connection"}"#;
    monitor.wait_for(delayed, |count| count > 0).await;
    // Nobody else waits for that.
    server
        .terminal("terminal-1")
        .await
        .ping()
        .await
        .expect_code(0);
}

#[tokio::test]
async fn who_sends_records_without_a_request_is_closed_after_ten_seconds_and_others_are_served() {
    let monitor = Monitor::free();
    let mut settings = SLOW.to_vec();
    let listen = monitor.setting();
    settings.push(("metrics.listen", &listen));
    let site = Site::with(&settings);
    let server = site.start();
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(server.terminal("terminal-1").await.into_stream());
    }
    let mut other = server.terminal("terminal-2").await;
    let began = Instant::now();
    let attacks = streams.into_iter().map(|mut stream| async move {
        // Closed or reset under it, as the bank reads no more.
        let _ = in_time("the bank to close", renew_keys(&mut stream)).await;
        began.elapsed()
    });
    let attacks: Vec<_> = attacks.map(tokio::spawn).collect();
    for attack in attacks {
        let took = attack.await.unwrap();
        assert!((9..15).contains(&took.as_secs()), "{took:?}");
        other.ping().await.expect_code(0);
    }
    let closed = r#"bank_refused_connections_total{reason="over its budget"}"#;
    monitor.wait_for(closed, |count| count == 4).await;
}

#[tokio::test]
async fn the_door_for_enrolment_reads_no_faster() {
    let monitor = Monitor::free();
    let mut settings = SLOW.to_vec();
    let listen = monitor.setting();
    settings.push(("metrics.listen", &listen));
    let site = Site::enrolling(&settings);
    let server = site.start();
    let nobody = Card::none(&site.path("certs"));
    let mut stream = recruit::connect(server.address, nobody).await.unwrap();
    // It has three seconds for its first message.
    let _ = in_time("the bank to close", renew_keys(&mut stream)).await;
    let delayed = r#"bank_reads_delayed_total{budget="connection"}"#;
    assert!(monitor.value(delayed).await > 0);
}
