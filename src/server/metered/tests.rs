//! What a meter hands on, and when.

use std::net::IpAddr;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::super::budget::{Price, Rations};
use super::*;
use crate::access::throttle::Requester;

/// A record with nothing in it, as it stands below TLS.
const EMPTY: [u8; 5] = [23, 3, 3, 0, 0];

fn records(lengths: &[u16]) -> Vec<u8> {
    let record = |length: &u16| {
        let [high, low] = length.to_be_bytes();
        let mut record = vec![23, 3, 3, high, low];
        record.resize(5 + usize::from(*length), 0x17);
        record
    };
    lengths.iter().flat_map(record).collect()
}

proptest! {
    #[test]
    fn records_are_counted_alike_however_they_are_cut(
        lengths in prop::collection::vec(0..600_u16, 0..40),
        cuts in prop::collection::vec(1..700_usize, 1..40),
        most in 1..40_usize,
    ) {
        let all = records(&lengths);
        let (mut parser, mut at, mut ended) = (Records::default(), 0, 0);
        let mut cuts = cuts.iter().cycle();
        while at < all.len() {
            let end = (at + cuts.next().unwrap()).min(all.len());
            let (octets, records) = parser.follow(&all[at..end], most);
            prop_assert!(octets > 0 && records <= most);
            at += octets;
            ended += records;
        }
        prop_assert_eq!(ended, lengths.len());
    }
}

/// A peer, and the server's side of it, which may read so many records a second and so many at once.
fn pair(rations: &Rations, per_second: u64, at_once: u64) -> (DuplexStream, Metered<DuplexStream>) {
    let (near, far) = duplex(1 << 20);
    let mut metered = Metered::new(far, |_, _| {}, Arc::default());
    let price = |times: u64| Prices {
        octets: Price::new(1_000_000_000, 1_000_000_000),
        records: Price::new(per_second * times, at_once * times),
    };
    let peer = Requester::Address(IpAddr::from([127, 0, 0, 1]).into());
    let prices = (price(1), price(2));
    metered
        .meter
        .begin(Budgets::new(rations.clock, prices, rations.of(peer)));
    (near, metered)
}

async fn read(metered: &mut Metered<DuplexStream>) -> io::Result<usize> {
    metered.read(&mut [0; 4_096]).await
}

#[tokio::test(start_paused = true)]
async fn tls_is_handed_a_few_records_at_once_and_all_in_the_end() {
    let (mut peer, mut metered) = pair(&Rations::new(), 1_000_000, 1_000_000);
    peer.write_all(&EMPTY.repeat(100)).await.unwrap();
    let mut sizes = Vec::new();
    for _ in 0..4 {
        sizes.push(read(&mut metered).await.unwrap() / EMPTY.len());
    }
    let most = limits::RECORDS_TOGETHER_MAX;
    assert_eq!(sizes, [most, most, most, 100 - 3 * most]);
    peer.write_all(b"\x17\x03\x03\x00\x02ab").await.unwrap();
    let mut next = [0; 7];
    metered.read_exact(&mut next).await.unwrap();
    assert_eq!(&next, b"\x17\x03\x03\x00\x02ab");
}

#[tokio::test(start_paused = true)]
async fn others_are_served_after_a_few_records_or_reads() {
    for (octets, size) in [(EMPTY.repeat(4_000), 4_096), (vec![255; 1_000], 1)] {
        let (mut peer, mut metered) = pair(&Rations::new(), 1_000_000, 1_000_000);
        peer.write_all(&octets).await.unwrap();
        let mut served = 0;
        let mut read_all = std::pin::pin!(async {
            let (mut left, mut buffer) = (octets.len(), vec![0; size]);
            while left > 0 {
                left -= metered.read(&mut buffer).await.unwrap();
            }
        });
        // Each time that it waits, others are served.
        std::future::poll_fn(|context| {
            let done = read_all.as_mut().poll(context);
            served += usize::from(done.is_pending());
            done
        })
        .await;
        assert!(served >= 120, "{served}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_over_the_rate_is_read_later_and_none_of_it_is_lost() {
    let (mut peer, mut metered) = pair(&Rations::new(), 100, 100);
    let began = Instant::now();
    peer.write_all(&EMPTY.repeat(600)).await.unwrap();
    let mut left = EMPTY.len() * 600;
    while left > 0 {
        left -= read(&mut metered).await.unwrap();
        // Each counts as a request here.
        metered.meter.whole_request();
    }
    let took = began.elapsed();
    assert!((4_600..=5_100).contains(&took.as_millis()), "{took:?}");
    let paused = metered.meter.paused();
    assert!((4_600..=5_400).contains(&paused.as_millis()), "{paused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_terminal_has_its_budget_once_however_many_connections_it_has() {
    let rations = Rations::new();
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (mut peer, mut metered) = pair(&rations, 100, 100);
        tasks.spawn(async move {
            peer.write_all(&EMPTY.repeat(200)).await.unwrap();
            let mut left = EMPTY.len() * 200;
            while left > 0 {
                left -= read(&mut metered).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    // 1,600 records at 200 a second, 200 of them at once, and the last of each unpaid.
    let took = began.elapsed();
    assert!((5_500..=7_100).contains(&took.as_millis()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn who_is_over_for_ten_seconds_without_a_request_is_given_up_and_nobody_else() {
    let (mut peer, mut metered) = pair(&Rations::new(), 100, 100);
    let began = Instant::now();
    peer.write_all(&EMPTY.repeat(5_000)).await.unwrap();
    let error = loop {
        if let Err(error) = read(&mut metered).await {
            break error;
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(metered.meter.gave_up());
    let took = began.elapsed();
    assert!((10_000..=10_500).contains(&took.as_millis()), "{took:?}");

    // Who catches up before that begins anew.
    let (mut peer, mut metered) = pair(&Rations::new(), 100, 100);
    for _ in 0..4 {
        peer.write_all(&EMPTY.repeat(700)).await.unwrap();
        let mut left = EMPTY.len() * 700;
        while left > 0 {
            left -= read(&mut metered).await.unwrap();
        }
        let more = tokio::time::timeout(Duration::from_secs(2), read(&mut metered));
        assert!(more.await.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_has_so_many_records_and_octets_and_no_more() {
    for octets in [EMPTY.repeat(2_000), records(&[16_000; 5])] {
        let (mut peer, far) = duplex(1 << 20);
        let mut metered = Metered::new(far, |_, _| {}, Arc::default());
        peer.write_all(&octets).await.unwrap();
        let mut taken = 0;
        let error = loop {
            match read(&mut metered).await {
                Ok(octets) => taken += octets,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(taken <= limits::HANDSHAKE_OCTETS_MAX);
        assert!(taken >= 4_096);
    }
}
