use super::*;
use proptest::prelude::*;

fn parse(text: &str) -> Envelope {
    Envelope::parse(text.as_bytes())
}

fn malformed(text: &str) -> Option<u64> {
    let envelope = parse(text);
    assert_eq!(
        envelope.request.unwrap_err(),
        Unreadable::Malformed,
        "{text}"
    );
    envelope.id
}

#[test]
fn numbers_with_fraction_or_exponent_are_malformed_and_minus_zero_is_zero() {
    for amount in [
        "1.0",
        "1e3",
        "1E3",
        "0.5",
        "9223372036854775808",
        "\"5\"",
        "true",
        "null",
        "[1]",
        "01",
        "+1",
    ] {
        let text =
            format!(r#"{{"id":1,"op":"deposit","amount":{amount},"key":"0123456789abcdef"}}"#);
        malformed(&text);
    }
    let text = r#"{"id":-0,"op":"deposit","amount":-0,"key":"0123456789abcdef"}"#;
    let envelope = parse(text);
    assert_eq!(envelope.id, Some(0));
    assert!(matches!(envelope.request, Ok(Request::Deposit(keyed)) if keyed.amount.0 == 0));
}

#[test]
fn every_amount_of_64_bits_is_read_to_be_judged_later() {
    for amount in [i64::MIN, -1, 0, 1, i64::MAX] {
        let text =
            format!(r#"{{"id":1,"op":"deposit","amount":{amount},"key":"0123456789abcdef"}}"#);
        assert!(
            matches!(parse(&text).request, Ok(Request::Deposit(keyed)) if keyed.amount.0 == amount)
        );
    }
}

#[test]
fn a_member_given_twice_missing_or_unknown_is_malformed() {
    assert_eq!(malformed(r#"{"id":1,"op":"ping","op":"ping"}"#), Some(1));
    assert_eq!(
        malformed(r#"{"id":1,"op":"ping","\u006fp":"ping"}"#),
        Some(1)
    );
    assert_eq!(malformed(r#"{"id":1,"id":1,"op":"ping"}"#), None);
    assert_eq!(malformed(r#"{"id":1,"op":"ping","x":0}"#), Some(1));
    assert_eq!(malformed(r#"{"id":1}"#), Some(1));
    assert_eq!(malformed(r#"{"op":"ping"}"#), None);
    assert_eq!(
        malformed(r#"{"id":1,"op":"login","account":"zz-99999"}"#),
        Some(1)
    );
    assert_eq!(malformed(r#"{"id":1,"op":7}"#), Some(1));
}

#[test]
fn ids_are_0_to_2_to_the_53_less_1() {
    assert_eq!(
        parse(r#"{"id":9007199254740991,"op":"ping"}"#).id,
        Some(ID_MAX)
    );
    for id in ["9007199254740992", "-1", "1.0", "\"1\"", "null"] {
        assert_eq!(malformed(&format!(r#"{{"id":{id},"op":"ping"}}"#)), None);
    }
}

#[test]
fn what_is_no_object_of_utf_8_is_malformed_without_an_id() {
    for text in [
        "",
        " ",
        "[]",
        "1",
        "null",
        "\"x\"",
        "{",
        "{}x",
        r#"{"id":1,"op":"ping"}{}"#,
        "\u{feff}{\"id\":1,\"op\":\"ping\"}",
    ] {
        assert_eq!(malformed(text), None);
    }
    assert!(
        Envelope::parse(b"{\"id\":1,\"op\":\"\xff\"}")
            .request
            .is_err()
    );
    assert_eq!(malformed(r#"{"id":1,"op":"\ud800"}"#), Some(1));
    assert!(
        parse(" \r\n\t{ \"id\" : 1 , \"op\" : \"ping\" } \n")
            .request
            .is_ok()
    );
}

#[test]
fn nesting_of_four_is_an_unknown_op_at_worst_and_five_is_malformed() {
    let unknown = parse(r#"{"id":1,"op":"dance","x":[[{"y":1}]]}"#);
    assert_eq!(unknown.request.unwrap_err(), Unreadable::UnknownOp);
    assert_eq!(
        malformed(r#"{"id":1,"op":"dance","x":[[{"y":[]}]]}"#),
        Some(1)
    );
    assert_eq!(
        malformed(r#"{"id":1,"op":"dance","x":{"a":1,"a":1}}"#),
        Some(1)
    );
    assert_eq!(malformed(r#"{"id":1,"op":"dance","x":[1.5]}"#), Some(1));
    malformed(&format!("{}{}", "[".repeat(20_000), "]".repeat(20_000)));
    malformed(&format!(
        r#"{{"id":1,"x":{}{}}}"#,
        "[".repeat(20_000),
        "]".repeat(20_000)
    ));
}

#[test]
fn a_string_outside_its_form_is_malformed() {
    for (account, pin) in [
        ("zz-9999", "1234"),
        ("zz-99999", "123"),
        ("zz-99999", "1234567890123"),
        ("zz-99999", "12a4"),
        ("zz-99999", " 1234"),
    ] {
        malformed(&format!(
            r#"{{"id":1,"op":"login","account":"{account}","pin":"{pin}"}}"#
        ));
    }
    malformed(r#"{"id":1,"op":"login","account":"zz-99999","pin":1234}"#);
    let escaped = parse(r#"{"id":1,"op":"login","account":"ZZ-99999","pin":"\u0031234"}"#);
    assert!(matches!(escaped.request, Ok(Request::Login { pin, .. }) if pin.digits() == b"1234"));
}

#[test]
fn history_takes_1_to_100_entries_before_a_positive_number() {
    assert!(matches!(
        parse(r#"{"id":1,"op":"history"}"#).request,
        Ok(Request::History {
            limit: 10,
            before: None
        })
    ));
    assert!(matches!(
        parse(r#"{"id":1,"op":"history","limit":100,"before":1}"#).request,
        Ok(Request::History { limit: 100, .. })
    ));
    for members in [
        r#""limit":0"#,
        r#""limit":101"#,
        r#""before":0"#,
        r#""before":-1"#,
        r#""limit":null"#,
    ] {
        malformed(&format!(r#"{{"id":1,"op":"history",{members}}}"#));
    }
}

fn any_request() -> impl Strategy<Value = Request> {
    let account = || "[a-z]{2}-[0-9]{5}".prop_map(|text| text.parse::<AccountNumber>().unwrap());
    let pin = || "[0-9]{4,12}".prop_map(|text| Pin::parse(&text).unwrap());
    let key = || "[A-Za-z0-9-]{16,64}".prop_map(|text| text.parse::<IdempotencyKey>().unwrap());
    let hold = || "[A-Za-z0-9-]{1,64}".prop_map(|text| text.parse::<HoldName>().unwrap());
    let keyed = move || {
        (any::<i64>(), key()).prop_map(|(amount, key)| Keyed {
            amount: RequestedAmount(amount),
            key,
        })
    };
    prop_oneof![
        Just(()).prop_map(|()| Request::Ping),
        (account(), pin()).prop_map(|(account, pin)| Request::Login { account, pin }),
        Just(()).prop_map(|()| Request::Balance),
        keyed().prop_map(Request::Deposit),
        keyed().prop_map(Request::Withdraw),
        (account(), keyed()).prop_map(|(to, keyed)| Request::Transfer { to, keyed }),
        keyed().prop_map(Request::Authorize),
        (hold(), keyed()).prop_map(|(hold, keyed)| Request::Capture { hold, keyed }),
        (hold(), key()).prop_map(|(hold, key)| Request::Release { hold, key }),
        (1_u8..=100, prop::option::of(1_i64..)).prop_map(|(limit, before)| Request::History {
            limit,
            before: before.and_then(EntryNumber::new)
        }),
        (pin(), pin()).prop_map(|(pin, new_pin)| Request::ChangePin { pin, new_pin }),
        Just(()).prop_map(|()| Request::Logout),
    ]
}

proptest! {
    #[test]
    fn what_is_encoded_is_read_back_as_the_same_request(id in 0..=ID_MAX, request in any_request()) {
        let mut bytes = Vec::new();
        request.encode(id, &mut bytes);
        let envelope = Envelope::parse(&bytes);
        prop_assert_eq!(envelope.id, Some(id));
        let mut again = Vec::new();
        envelope.request.unwrap().encode(id, &mut again);
        prop_assert_eq!(bytes, again);
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,200}") {
        let _ = Envelope::parse(&bytes);
        let _ = Envelope::parse(text.as_bytes());
    }
}
