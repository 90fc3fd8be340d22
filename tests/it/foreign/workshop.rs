//! A CA that openssl keeps, as many a bank has one.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// Whether openssl is here; says so where it is not.
pub(super) fn is_here() -> bool {
    let here = Command::new("openssl").arg("version").output().is_ok();
    if !here {
        println!("skipped: there is no openssl on the PATH");
    }
    here
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    /// The curve, and the hash that goes with it.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::P256 => ("P-256", "sha256"),
            Self::P384 => ("P-384", "sha384"),
            Self::P521 => ("P-521", "sha512"),
        }
    }
}

const CONFIG: &str = "[req]\ndistinguished_name = dn\n[dn]\n\
     [ca]\ndefault_ca = own\n[own]\ndatabase = index.txt\ndefault_crl_days = 3650\n\
     [numbered]\nauthorityKeyIdentifier = keyid:always\n\
     [delta]\nauthorityKeyIdentifier = keyid:always\n2.5.29.27 = critical,ASN1:INTEGER:1\n";

/// A CA in a folder of its own.
pub(super) struct Ca {
    folder: TempDir,
    curve: Curve,
}

impl Ca {
    /// One that signed itself.
    pub(super) fn root(name: &str, curve: Curve) -> Self {
        let ca = Self::empty(curve);
        ca.request(name, "ca");
        let (_, hash) = curve.names();
        ca.write("ext", &Self::authority_extensions());
        ca.run(&[
            "x509",
            "-req",
            "-in",
            "ca.csr",
            "-key",
            "ca.key",
            "-extfile",
            "ext",
            "-days",
            "3650",
            "-out",
            "ca.pem",
            &format!("-{hash}"),
        ]);
        ca
    }

    /// One that this CA signs.
    pub(super) fn below(&self, name: &str) -> Self {
        let ca = Self::empty(self.curve);
        ca.request(name, "ca");
        self.sign(
            &ca.file("csr"),
            &Self::authority_extensions(),
            &ca.file("pem"),
        );
        ca
    }

    fn empty(curve: Curve) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca = Self { folder, curve };
        ca.write("config", CONFIG);
        ca.write("index.txt", "");
        ca.write("crlnumber", "01\n");
        ca
    }

    fn authority_extensions() -> String {
        "basicConstraints = critical,CA:TRUE\nkeyUsage = critical,keyCertSign,cRLSign\n\
         subjectKeyIdentifier = hash\n"
            .to_owned()
    }

    /// The CA's own file with this ending.
    pub(super) fn file(&self, ending: &str) -> PathBuf {
        self.folder.path().join(format!("ca.{ending}"))
    }

    pub(super) fn certificate(&self) -> String {
        fs::read_to_string(self.file("pem")).unwrap()
    }

    pub(super) fn issue_server(&self, place: &Path) {
        self.issue(
            "server",
            &[
                "subjectAltName=DNS:localhost",
                "extendedKeyUsage=serverAuth",
            ],
            place,
        );
    }

    pub(super) fn issue_terminal(&self, name: &str, place: &Path) {
        let uri = format!("subjectAltName=URI:urn:atm:terminal:{name}");
        self.issue(name, &[&uri, "extendedKeyUsage=clientAuth"], place);
    }

    /// Makes `place` with `.pem` and `.key`.
    pub(super) fn issue(&self, name: &str, extensions: &[&str], place: &Path) {
        self.request(name, "leaf");
        let csr = self.folder.path().join("leaf.csr");
        self.sign(
            &csr,
            &(extensions.join("\n") + "\n"),
            &place.with_extension("pem"),
        );
        let key = place.with_extension("key");
        fs::copy(self.folder.path().join("leaf.key"), &key).unwrap();
        fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn request(&self, name: &str, file: &str) {
        let (curve, hash) = self.curve.names();
        self.run(&[
            "req",
            "-config",
            "config",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            &format!("ec_paramgen_curve:{curve}"),
            "-nodes",
            "-subj",
            &format!("/CN={name}"),
            "-keyout",
            &format!("{file}.key"),
            "-out",
            &format!("{file}.csr"),
            &format!("-{hash}"),
        ]);
    }

    fn sign(&self, csr: &Path, extensions: &str, to: &Path) {
        let (_, hash) = self.curve.names();
        self.write("ext", extensions);
        self.run(&[
            "x509",
            "-req",
            "-in",
            csr.to_str().unwrap(),
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-extfile",
            "ext",
            "-days",
            "300",
            "-out",
            to.to_str().unwrap(),
            &format!("-{hash}"),
        ]);
    }

    pub(super) fn revoke(&self, certificate: &Path) {
        let certificate = certificate.to_str().unwrap();
        self.ca(&["-revoke", certificate]);
    }

    /// A list of what is revoked. `-number HEX`, `-unnumbered`, `-v1`, `-delta`, `-sha1`; others are openssl's.
    pub(super) fn list(&self, how: &[&str]) -> String {
        let (mut hash, mut extensions, mut numbered) =
            (self.curve.names().1, Some("numbered"), true);
        let mut arguments = vec!["-gencrl"];
        let mut how = how.iter().filter(|one| !one.is_empty());
        while let Some(one) = how.next() {
            match *one {
                "-number" => self.write("crlnumber", &format!("{}\n", how.next().unwrap())),
                "-unnumbered" => numbered = false,
                "-v1" => (extensions, numbered) = (None, false),
                "-delta" => extensions = Some("delta"),
                "-sha1" => hash = "sha1",
                other => arguments.push(other),
            }
        }
        let config = if numbered {
            CONFIG.replace("[own]\n", "[own]\ncrlnumber = crlnumber\n")
        } else {
            CONFIG.to_owned()
        };
        self.write("config", &config);
        if let Some(extensions) = extensions {
            arguments.extend(["-crlexts", extensions]);
        }
        arguments.extend(["-md", hash, "-out", "list.pem"]);
        self.ca(&arguments);
        fs::read_to_string(self.folder.path().join("list.pem")).unwrap()
    }

    fn ca(&self, arguments: &[&str]) {
        let own = [
            "ca", "-config", "config", "-cert", "ca.pem", "-keyfile", "ca.key", "-md", "sha256",
        ];
        let md_given = arguments.contains(&"-md");
        let own = if md_given { &own[..7] } else { &own[..] };
        self.run(&[own, arguments].concat());
    }

    /// What openssl makes of a text.
    pub(super) fn openssl(&self, arguments: &[&str], input: &str) -> String {
        String::from_utf8(self.openssl_octets(arguments, input)).unwrap()
    }

    pub(super) fn openssl_octets(&self, arguments: &[&str], input: &str) -> Vec<u8> {
        let mut command = Command::new("openssl");
        command.args(arguments).current_dir(self.folder.path());
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // One that needs no input may be gone already.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    }

    fn run(&self, arguments: &[&str]) {
        self.openssl_octets(arguments, "");
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.folder.path().join(file), text).unwrap();
    }
}
