//! What single keys mean, how they relate, and what is warned of.

use super::*;

#[test]
fn an_address_may_not_have_more_connections_than_all_together() {
    let loaded = load("[server]\nmax_connections = 10").unwrap();
    assert_eq!(loaded.config.server.max_connections_per_ip, 10);
    let expected = "bank.toml:2: [server] max_connections_per_ip = 1000 \
        is more than max_connections; 10 is used";
    assert_eq!(loaded.warnings, [expected]);
}

#[test]
fn only_a_cost_below_all_that_owasp_advises_is_warned_of() {
    for (memory_kib, iterations, warned) in [
        (19_456, 2, false),
        (19_455, 2, true),
        (19_456, 1, true),
        (47_104, 1, false),
        (7_168, 5, false),
        (7_167, 9, true),
        (8, 1, true),
    ] {
        let text = format!("[pin]\nmemory_kib = {memory_kib}\niterations = {iterations}");
        let loaded = load(&text).unwrap();
        assert_eq!(loaded.warnings.len(), usize::from(warned), "{text}");
    }
}

#[test]
fn argon2_has_8_kib_a_lane_or_is_refused() {
    assert!(load("[pin]\nmemory_kib = 32\nparallelism = 4").is_ok());
    assert_eq!(
        faults("[pin]\nmemory_kib = 31\nparallelism = 4"),
        [
            "bank.toml:2: [pin] memory_kib: 31 KiB is too little for parallelism = 4; \
                write at least 32, 8 KiB a lane"
        ]
    );
}

#[test]
fn strangers_are_warned_of_only_where_they_can_reach_the_bank() {
    for (listen, client_auth, warned) in [
        ("0.0.0.0:0", "off", true),
        ("[::]:0", "off", true),
        ("127.9.9.9:0", "off", false),
        ("[::1]:0", "off", false),
        ("[::ffff:127.0.0.1]:0", "off", false),
        ("0.0.0.0:0", "required", false),
    ] {
        let text =
            format!("[server]\nlisten = \"{listen}\"\n[tls]\nclient_auth = \"{client_auth}\"");
        assert_eq!(
            load(&text).unwrap().warnings.len(),
            usize::from(warned),
            "{text}"
        );
    }
}

#[test]
fn addresses_are_hosts_with_ports() {
    for (text, expected) in [("localhost:8443", "127.0.0.1:8443"), ("[::1]:0", "[::1]:0")] {
        let listen = config(&set(Key::Text(&keys::LISTEN), &format!("\"{text}\"")))
            .server
            .listen;
        assert_eq!(listen.to_string(), expected);
    }
    for text in [
        "",
        "127.0.0.1",
        "8443",
        ":8443",
        "localhost",
        "127.0.0.1:65536",
        "off",
        "[::1]",
    ] {
        for key in [&keys::LISTEN, &keys::METRICS_LISTEN] {
            let taken = load(&set(Key::Text(key), &format!("\"{text}\""))).is_ok();
            assert_eq!(
                taken,
                text == "off" && key.name.table == "metrics",
                "{text}"
            );
        }
    }
    let twice = "[server]\nlisten = \"127.0.0.1:9000\"\n[metrics]\nlisten = \"127.0.0.1:9000\"";
    assert!(load(twice).is_err());
}

#[test]
fn a_store_is_a_file_or_a_postgres_url() {
    for (url, expected) in [
        ("sqlite:bank.db", StoreUrl::Sqlite("bank.db".into())),
        (
            "sqlite:///var/bank.db",
            StoreUrl::Sqlite("/var/bank.db".into()),
        ),
        (
            "sqlite:our data/bank-1.db",
            StoreUrl::Sqlite("our data/bank-1.db".into()),
        ),
        (
            "postgres://u:p@host/bank",
            StoreUrl::Postgres("postgres://u:p@host/bank".into()),
        ),
    ] {
        let text = set(Key::Text(&keys::STORE_URL), &format!("\"{url}\""));
        assert_eq!(config(&text).store.url, expected);
        assert!(!format!("{:?}", config(&text)).contains("u:p"));
    }
    for url in [
        "",
        "bank.db",
        "sqlite:",
        "sqlite::memory:",
        "sqlite:file:x?mode=memory",
        "sqlite:bank.db?mode=ro",
        "sqlite:~/bank.db",
        "sqlite:$HOME/bank.db",
        "sqlite: data/bank.db",
        "sqlite:data/bank.db ",
        "sqlite:data/bank.db#x",
        "sqlite:data/bank.db;mode=ro",
        "sqlite:data/my%20bank.db",
        "sqlite:data\\\\bank.db",
        "sqlite:data/",
        "sqlite:..",
        "mysql://u:secret@host",
    ] {
        let found = faults(&set(Key::Text(&keys::STORE_URL), &format!("\"{url}\"")));
        assert!(
            found.len() == 1 && !found.concat().contains("secret"),
            "{found:?}"
        );
    }
}

#[test]
fn the_pepper_never_lies_beside_the_store() {
    for text in [
        "[pin]\npepper_file = \"data/pepper\"",
        "[pin]\npepper_file = \"certs/../data/pepper\"",
        "[tls]\ndir = \"data\"",
        "[store]\nurl = \"sqlite:certs/bank.db\"",
    ] {
        let found = faults(text);
        assert!(
            found
                .concat()
                .contains("[pin] pepper_file: the pepper may not lie"),
            "{found:?}"
        );
    }
}

#[test]
fn what_is_not_set_follows_from_what_is() {
    let config = config(
        "[tls]\ndir = \"tls\"\ncrl = \"lists/crl.pem\"\n[store]\nurl = \"sqlite:/srv/bank/b.db\"",
    );
    assert_eq!(config.tls.cert, Path::new("tls/server.pem"));
    assert_eq!(config.tls.crl, Path::new("lists/crl.pem"));
    assert_eq!(config.pin.pepper_file, Path::new("tls/pepper"));
    assert_eq!(
        config.server.operator_socket,
        Path::new("/srv/bank/operator.sock")
    );
}

#[test]
fn a_path_too_long_for_a_socket_is_refused_only_where_it_was_chosen() {
    let long = "x".repeat(108);
    assert_eq!(
        faults(&set(
            Key::Text(&keys::OPERATOR_SOCKET),
            &format!("\"{long}\"")
        ))
        .len(),
        1
    );
    let beside = load(&format!("[store]\nurl = \"sqlite:{long}/bank.db\"")).unwrap();
    assert_eq!(beside.warnings.len(), 1);
}

#[test]
fn more_threads_than_any_machine_needs_are_not_started() {
    let loaded = load("[pin]\nmax_concurrent = 1000000000").unwrap();
    assert_eq!(
        loaded.config.pin.max_concurrent,
        crate::limits::PINS_AT_ONCE_MAX
    );
    assert_eq!(loaded.warnings.len(), 1);
}

#[test]
fn what_a_connection_may_send_follows_from_its_requests_and_has_room_for_two_frames() {
    let budgets = |text: &str| {
        let limits = config(text).limits;
        [
            (limits.octets_per_second, limits.octet_burst),
            (limits.records_per_second, limits.record_burst),
        ]
    };
    let with = |settings: &str| budgets(&format!("[limits]\n{settings}"));
    assert_eq!(budgets(""), [(76_800, 1_638_400), (400, 2_000)]);
    let raised = "requests_per_second = 1000\nrequest_burst = 10";
    assert_eq!(with(raised), [(1_536_000, 163_840), (8_000, 200)]);
    let lifted = "requests_per_second = 1000000000\nrequest_burst = 1000000000";
    assert_eq!(with(lifted), [(1_000_000_000, 1_000_000_000); 2]);
    let two_frames = (2 * (16_388 + 17 * 22), 2 * 17);
    let low = with("requests_per_second = 1\nrequest_burst = 1");
    assert_eq!(low, [(1_536, two_frames.0), (8, two_frames.1)]);
    let own = "octets_per_second = 70000\noctet_burst = 50000\nrecords_per_second = 60\nrecord_burst = 40";
    assert_eq!(with(own), [(70_000, 50_000), (60, 40)]);
    // A frame of the largest size there is leaves room for two of them all the same.
    let large = with("frame_after_login = 1000000000");
    assert!(large[0].1 > 2_000_000_000, "{large:?}");
}

#[test]
fn budgets_that_contradict_other_limits_are_warned_of() {
    let text = "[limits]\noctets_per_second = 12799\noctet_burst = 33523\nrecords_per_second = 49\n\
                record_burst = 33";
    let expected = [
        "bank.toml:2: [limits] octets_per_second = 12799 is less than requests_per_second needs; 12800 is enough",
        "bank.toml:3: [limits] octet_burst = 33523 is less than two frames of the largest size; 33524 is used",
        "bank.toml:4: [limits] records_per_second = 49 is less than requests_per_second needs; 50 is enough",
        "bank.toml:5: [limits] record_burst = 33 is less than two frames of the largest size; 34 is used",
    ];
    assert_eq!(load(text).unwrap().warnings, expected);
    let enough = "[limits]\noctets_per_second = 12800\noctet_burst = 33524\nrecords_per_second = 50\n\
                  record_burst = 34";
    assert!(load(enough).unwrap().warnings.is_empty());
}

#[test]
fn a_table_of_tries_that_one_terminal_fills_in_a_day_is_warned_of() {
    assert!(
        load("[limits]\ntry_rows = 86400")
            .unwrap()
            .warnings
            .is_empty()
    );
    let warnings = load("[limits]\ntry_rows = 40").unwrap().warnings;
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].starts_with("bank.toml:2: [limits] try_rows = 40: one terminal"),
        "{warnings:?}"
    );
}
