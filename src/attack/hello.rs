//! TLS greetings built by hand: what no well-behaved TLS library would send.

/// Which TLS a greeting asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// SSL 3.0 (RFC 7568 forbids it).
    Ssl3,
    /// TLS 1.0 (RFC 8996 forbids it).
    Tls10,
    /// TLS 1.1 (RFC 8996 forbids it).
    Tls11,
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl Version {
    const fn octets(self) -> [u8; 2] {
        match self {
            Self::Ssl3 => [3, 0],
            Self::Tls10 => [3, 1],
            Self::Tls11 => [3, 2],
            Self::Tls12 => [3, 3],
            Self::Tls13 => [3, 4],
        }
    }
}

/// What a ClientHello says (RFC 8446, section 4.1.2).
#[derive(Debug, Clone, Copy)]
pub(super) struct Hello<'a> {
    /// The highest version offered, and the only one.
    pub(super) version: Version,
    /// The host's name; an IP address is never sent.
    pub(super) host: Option<&'a str>,
    /// The name in ALPN.
    pub(super) alpn: &'a [u8],
    /// Compression methods: 0 is none, 1 is DEFLATE.
    pub(super) compression: &'a [u8],
    /// The client's random value, and the key share of TLS 1.3.
    pub(super) random: [u8; 32],
}

/// ECDHE and RSA with AES, as servers of TLS 1.2 and older like them best.
const OLD_SUITES: [u8; 20] = [
    0xc0, 0x2b, 0xc0, 0x2f, 0xc0, 0x2c, 0xc0, 0x30, 0xc0, 0x09, 0xc0, 0x13, 0xc0, 0x0a, 0xc0, 0x14,
    0x00, 0x2f, 0x00, 0x35,
];
/// The three suites of TLS 1.3.
const NEW_SUITES: [u8; 6] = [0x13, 0x01, 0x13, 0x02, 0x13, 0x03];
/// X25519, P-256, P-384.
const GROUPS: [u8; 8] = [0, 6, 0, 0x1d, 0, 0x17, 0, 0x18];
/// ECDSA, RSA-PSS and RSA with SHA-256 and more; the old ones with SHA-1 last.
const SIGNATURES: [u8; 18] = [
    0, 16, 0x04, 0x03, 0x05, 0x03, 0x08, 0x07, 0x08, 0x04, 0x08, 0x05, 0x04, 0x01, 0x02, 0x03,
    0x02, 0x01,
];

impl Hello<'_> {
    /// The greeting as one TLS record.
    pub(super) fn record(&self) -> Vec<u8> {
        let mut body = match self.version {
            // TLS 1.3 calls itself 1.2 here; its name stands in an extension.
            Version::Tls13 => vec![3, 3],
            older => older.octets().to_vec(),
        };
        body.extend(self.random);
        let session = if self.version == Version::Tls13 {
            &self.random[..]
        } else {
            &[]
        };
        body.extend(with_length_8(session));
        let suites = if self.version == Version::Tls13 {
            &NEW_SUITES[..]
        } else {
            &OLD_SUITES
        };
        body.extend(with_length_16(suites));
        body.extend(with_length_8(self.compression));
        if self.version != Version::Ssl3 {
            body.extend(with_length_16(&self.extensions()));
        }
        let mut message = vec![1];
        message.extend(with_length_24(&body));
        let mut record = vec![22, 3, if self.version == Version::Ssl3 { 0 } else { 1 }];
        record.extend(with_length_16(&message));
        record
    }

    fn extensions(&self) -> Vec<u8> {
        let mut all = Vec::new();
        let mut add = |kind: u16, content: &[u8]| {
            all.extend(kind.to_be_bytes());
            all.extend(with_length_16(content));
        };
        if let Some(host) = self.host {
            let mut name = vec![0];
            name.extend(with_length_16(host.as_bytes()));
            add(0, &with_length_16(&name));
        }
        add(10, &GROUPS);
        add(11, &[1, 0]);
        add(13, &SIGNATURES);
        add(16, &with_length_16(&with_length_8(self.alpn)));
        if self.version == Version::Tls13 {
            add(43, &[2, 3, 4]);
            let mut share = vec![0, 0x1d];
            share.extend(with_length_16(&self.random));
            add(51, &with_length_16(&share));
        }
        all
    }
}

fn with_length_8(content: &[u8]) -> Vec<u8> {
    let mut out = vec![u8::try_from(content.len()).unwrap_or(u8::MAX)];
    out.extend(content);
    out
}

fn with_length_16(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
    let mut out = length.to_be_bytes().to_vec();
    out.extend(content);
    out
}

fn with_length_24(content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
    let [_, octets @ ..] = length.to_be_bytes();
    let mut out = octets.to_vec();
    out.extend(content);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn hello(version: Version) -> Vec<u8> {
        Hello {
            version,
            host: Some("bank.example"),
            alpn: b"atm/1",
            compression: &[0],
            random: [9; 32],
        }
        .record()
    }

    /// A TLS server's own reading of a greeting.
    fn read(mut bytes: &[u8]) -> rustls::server::Accepted {
        let mut acceptor = rustls::server::Acceptor::default();
        acceptor.read_tls(&mut bytes).unwrap();
        acceptor
            .accept()
            .map_err(|(error, _)| error)
            .unwrap()
            .unwrap()
    }

    #[test]
    fn a_tls_server_reads_every_greeting_as_what_it_says() {
        for version in [
            Version::Tls10,
            Version::Tls11,
            Version::Tls12,
            Version::Tls13,
        ] {
            let accepted = read(&hello(version));
            let greeting = accepted.client_hello();
            assert_eq!(greeting.server_name(), Some("bank.example"), "{version:?}");
            let mut names = greeting.alpn().unwrap();
            assert_eq!(names.next(), Some(&b"atm/1"[..]), "{version:?}");
        }
    }

    #[test]
    fn the_greeting_of_tls_1_3_is_good_enough_to_be_answered() {
        let issued = crate::pki::Authority::create(time::OffsetDateTime::now_utc(), 1)
            .and_then(|authority| {
                let names = ["bank.example".parse().unwrap()];
                authority.issue_server(&names, time::OffsetDateTime::now_utc(), 1)
            })
            .unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![issued.der().clone()], issued.key_der())
            .unwrap();
        let config = Arc::new(config);
        let answer = |version| {
            let bytes = hello(version);
            let mut server = rustls::ServerConnection::new(config.clone()).unwrap();
            server.read_tls(&mut &bytes[..]).unwrap();
            let judged = server.process_new_packets().is_ok();
            let mut out = Vec::new();
            server.write_tls(&mut out).unwrap();
            (judged, out.first().copied())
        };
        assert_eq!(answer(Version::Tls13), (true, Some(22)));
        for old in [
            Version::Ssl3,
            Version::Tls10,
            Version::Tls11,
            Version::Tls12,
        ] {
            assert_eq!(answer(old), (false, Some(21)), "{old:?}");
        }
    }
}
