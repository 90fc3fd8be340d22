//! From what was set to a configuration: meanings, relations, warnings.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::Level;

use super::fault::{Place, shown};
use super::keys::{self, Number};
use super::paths::share_a_folder;
use super::reader::Reader;
use super::values::Values;
use super::{
    AccountsConfig, ClientAuth, Config, ConfigErrors, EnrollConfig, IssuingFiles, LimitsConfig,
    Loaded, LogConfig, LogFormat, MetricsConfig, PinConfig, ServerConfig, StoreConfig, StoreUrl,
    TlsConfig,
};
use crate::access::lockout::LockoutPolicy;
use crate::access::pin::{HashCost, OWASP_MINIMUM};
use crate::domain::{ClockPolicy, Currency, OpenHolds};
use crate::limits;

/// Costs that OWASP's Password Storage Cheat Sheet calls as strong as its minimum: KiB, passes.
const OWASP_ALTERNATIVES: [(u32, u32); 4] = [(47_104, 1), (12_288, 3), (9_216, 4), (7_168, 5)];

/// The configuration, or everything that is wrong with it.
pub(super) fn build(values: Values) -> Result<Loaded, ConfigErrors> {
    let mut reader = Reader::new(values);
    let config = reader.config();
    let Values {
        faults,
        from_environment,
        ..
    } = reader.values;
    match config {
        Some(config) if faults.is_empty() => Ok(Loaded {
            config,
            warnings: reader.warnings,
            from_environment,
        }),
        _ => Err(ConfigErrors::new(faults)),
    }
}

impl Reader {
    /// All of it, so that all faults are found; `None` only beside a fault.
    fn config(&mut self) -> Option<Config> {
        let store = self.store();
        let tls = self.tls();
        let server = self.server(&store.url);
        let enroll = self.enroll();
        let limits = self.limits();
        let pin = self.pin(&tls.dir, &store.url);
        let accounts = self.accounts();
        let clock = ClockPolicy {
            jump_ms: self.natural(&keys::JUMP_MS),
            ahead_at_start_ms: self.natural(&keys::AHEAD_AT_START_MS),
        };
        let metrics = self.metrics(&server);
        let log = self.log();
        self.warn_of_strangers(&server, &tls);
        Some(Config {
            server,
            tls,
            enroll,
            limits,
            pin,
            accounts: accounts?,
            clock,
            store,
            metrics,
            log,
        })
    }

    fn server(&mut self, store: &StoreUrl) -> ServerConfig {
        let max_connections = self.count(&keys::MAX_CONNECTIONS);
        ServerConfig {
            listen: self.address(&keys::LISTEN, "such as \"127.0.0.1:8443\""),
            max_connections,
            max_connections_per_ip: self.connections_per_ip(max_connections),
            handshake_timeout: self.time(&keys::HANDSHAKE_TIMEOUT_MS),
            frame_timeout: self.time(&keys::FRAME_TIMEOUT_MS),
            login_timeout: self.time(&keys::LOGIN_TIMEOUT_MS),
            terminal_idle_timeout: self.time(&keys::TERMINAL_IDLE_TIMEOUT_MS),
            idle_timeout: self.time(&keys::IDLE_TIMEOUT_MS),
            session_timeout: self.time(&keys::SESSION_TIMEOUT_MS),
            peer_timeout: self.peer_timeout(),
            write_timeout: self.time(&keys::WRITE_TIMEOUT_MS),
            drain_timeout: self.time(&keys::DRAIN_TIMEOUT_MS),
            server_id: self.server_id(),
            operator_socket: self.operator_socket(store),
        }
    }

    fn peer_timeout(&mut self) -> Duration {
        let key = &keys::PEER_TIMEOUT_MS;
        let (wanted, gap) = (self.time(key), limits::HEARTBEAT_GAP_MAX);
        if wanted < gap {
            let text = format!(
                "{} = {} is less than the {} between two beats of a terminal that lives",
                key.name,
                wanted.as_millis(),
                gap.as_millis()
            );
            self.warn(key.name, text);
        }
        wanted
    }

    fn connections_per_ip(&mut self, total: usize) -> usize {
        let wanted = self.count(&keys::MAX_CONNECTIONS_PER_IP);
        if wanted > total {
            // Where only the total was set, that is what to look at.
            let at = match self.values.place(keys::MAX_CONNECTIONS_PER_IP.name) {
                Place::Default => keys::MAX_CONNECTIONS.name,
                _ => keys::MAX_CONNECTIONS_PER_IP.name,
            };
            let text = "[server] max_connections_per_ip = ";
            self.warn(
                at,
                format!("{text}{wanted} is more than max_connections; {total} is used"),
            );
        }
        wanted.min(total)
    }

    fn server_id(&mut self) -> String {
        let usable = |name: &str| {
            (1..=limits::SERVER_ID_BYTES_MAX).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_graphic())
        };
        let Some(name) = self.values.set_text(&keys::SERVER_ID) else {
            return host_name()
                .filter(|name| usable(name))
                .unwrap_or_else(|| "bank".to_owned());
        };
        let name = name.to_owned();
        if !usable(&name) {
            let mend = format!(
                "write 1 to {} printable ASCII characters without spaces",
                limits::SERVER_ID_BYTES_MAX
            );
            self.fault(
                keys::SERVER_ID.name,
                format!("\"{}\" is no name", shown(&name)),
                mend,
            );
        }
        name
    }

    fn operator_socket(&mut self, store: &StoreUrl) -> PathBuf {
        let key = &keys::OPERATOR_SOCKET;
        let set = self.values.set_text(key).is_some();
        let path = match store {
            _ if set => self.path(key),
            StoreUrl::Sqlite(file) => file.with_file_name("operator.sock"),
            StoreUrl::Postgres(_) => PathBuf::from("operator.sock"),
        };
        let longest = limits::SOCKET_PATH_BYTES_MAX;
        if path.as_os_str().len() > longest {
            let reason = format!("longer than the {longest} bytes of a socket's path");
            let mend = "set it to a shorter path";
            // Where it only follows from the store's place, a bank without staff can still serve.
            match set {
                true => self.fault(key.name, reason, mend),
                false => self.warn(key.name, format!("{}: {reason}; {mend}", key.name)),
            }
        }
        path
    }

    fn tls(&mut self) -> TlsConfig {
        let dir = self.path(&keys::TLS_DIR);
        TlsConfig {
            ca: self.path_or(&keys::TLS_CA, || dir.join("ca.pem")),
            cert: self.path_or(&keys::TLS_CERT, || dir.join("server.pem")),
            key: self.path_or(&keys::TLS_KEY, || dir.join("server.key")),
            crl: self.path_or(&keys::TLS_CRL, || dir.join("crl.pem")),
            client_auth: match self.values.text(&keys::CLIENT_AUTH) {
                "off" => ClientAuth::Off,
                _ => ClientAuth::Required,
            },
            issuing: self.issuing(&dir),
            dir,
        }
    }

    fn issuing(&mut self, dir: &Path) -> Option<IssuingFiles> {
        let files = IssuingFiles {
            cert: self.path_or(&keys::ISSUING_CERT, || dir.join("issuing.pem")),
            key: self.path_or(&keys::ISSUING_KEY, || dir.join("issuing.key")),
            crl: self.path_or(&keys::ISSUING_CRL, || dir.join("issuing-crl.pem")),
        };
        (self.values.text(&keys::ENROLL_ENABLED) == "on").then_some(files)
    }

    fn enroll(&mut self) -> EnrollConfig {
        EnrollConfig {
            certificate: self.time(&keys::CERTIFICATE_MS),
            code_ms: self.natural(&keys::CODE_MS),
            attempts_per_minute_per_ip: self.rate(&keys::ENROLMENTS_PER_MINUTE_PER_IP),
            attempts_per_minute: self.rate(&keys::ENROLMENTS_PER_MINUTE),
            max_connections: self.count(&keys::ENROLMENT_CONNECTIONS),
            max_connections_per_ip: self.count(&keys::ENROLMENT_CONNECTIONS_PER_IP),
        }
    }

    fn limits(&mut self) -> LimitsConfig {
        let budgets = self.budgets();
        LimitsConfig {
            octets_per_second: budgets.octets_per_second,
            octet_burst: budgets.octet_burst,
            records_per_second: budgets.records_per_second,
            record_burst: budgets.record_burst,
            frame_before_login: self.frame_limit(&keys::FRAME_BEFORE_LOGIN),
            frame_after_login: self.frame_limit(&keys::FRAME_AFTER_LOGIN),
            requests_per_second: self.rate(&keys::REQUESTS_PER_SECOND),
            request_burst: self.rate(&keys::REQUEST_BURST),
            connections_per_second_per_ip: self.rate(&keys::CONNECTIONS_PER_SECOND_PER_IP),
            connection_burst_per_ip: self.rate(&keys::CONNECTION_BURST_PER_IP),
            logins_per_minute_per_terminal: self.rate(&keys::LOGINS_PER_MINUTE_PER_TERMINAL),
            spray_tries: self.spray_tries(),
            try_rows: self.try_rows(),
            open_holds: OpenHolds {
                of_account: self.natural(&keys::OPEN_HOLDS_PER_ACCOUNT),
                of_terminal: self.natural(&keys::OPEN_HOLDS_PER_TERMINAL),
            },
        }
    }

    /// So few that one terminal fills the table within a day is warned of.
    fn try_rows(&mut self) -> u64 {
        let key = &keys::TRY_ROWS;
        let (rows, advised) = (self.natural(key), limits::TRY_ROWS_ADVISED);
        if rows < advised {
            let text = format!(
                "{} = {rows}: one terminal can fill them within a day, and then whoever else errs may not try \
                 again; {advised} is advised",
                key.name
            );
            self.warn(key.name, text);
        }
        rows
    }

    /// What is more than can be remembered is taken for the most that can.
    fn spray_tries(&mut self) -> u32 {
        let key = &keys::SPRAY_TRIES;
        let wanted = self.rate(key);
        let most = u32::try_from(limits::SPRAY_TRIES_MAX).unwrap_or(u32::MAX);
        if wanted > most {
            self.warn(key.name, format!("{} = {wanted}: {most} is used", key.name));
        }
        wanted.min(most)
    }

    fn frame_limit(&mut self, key: &Number) -> usize {
        let bytes = self.values.number(key);
        if bytes < limits::FRAME_LIMIT_BYTES_ADVISED {
            let advised = limits::FRAME_LIMIT_BYTES_ADVISED;
            let text = format!(
                "{} = {bytes} is less than the longest requests need; {advised} is enough",
                key.name
            );
            self.warn(key.name, text);
        }
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    fn pin(&mut self, tls_dir: &Path, store: &StoreUrl) -> PinConfig {
        PinConfig {
            cost: self.hash_cost(),
            lockout: LockoutPolicy {
                tries: self.rate(&keys::TRIES),
                lock_ms: self.natural(&keys::LOCK_MS),
            },
            pepper_file: self.pepper_file(tls_dir, store),
            max_concurrent: self.pins_at_once(),
        }
    }

    fn pins_at_once(&mut self) -> usize {
        let key = &keys::MAX_CONCURRENT;
        let cores = || std::thread::available_parallelism().map_or(1, NonZero::get);
        let wanted = self.set_count(key).unwrap_or_else(cores);
        let most = limits::PINS_AT_ONCE_MAX;
        if wanted > most {
            self.warn(key.name, format!("{} = {wanted}: {most} is used", key.name));
        }
        wanted.min(most)
    }

    fn hash_cost(&mut self) -> HashCost {
        let cost = HashCost {
            memory_kib: self.rate(&keys::MEMORY_KIB),
            iterations: self.rate(&keys::ITERATIONS),
            parallelism: self.rate(&keys::PARALLELISM),
        };
        let needed = limits::PIN_MEMORY_PER_LANE_KIB * i64::from(cost.parallelism);
        if i64::from(cost.memory_kib) < needed {
            let lanes = cost.parallelism;
            let reason = format!(
                "{} KiB is too little for parallelism = {lanes}",
                cost.memory_kib
            );
            self.fault(
                keys::MEMORY_KIB.name,
                reason,
                format!("write at least {needed}, 8 KiB a lane"),
            );
        }
        let meets = |&(memory_kib, iterations): &(u32, u32)| {
            cost.memory_kib >= memory_kib && cost.iterations >= iterations
        };
        let minimum = (OWASP_MINIMUM.memory_kib, OWASP_MINIMUM.iterations);
        if !meets(&minimum) && !OWASP_ALTERNATIVES.iter().any(meets) {
            let text = format!(
                "[pin] memory_kib = {}, iterations = {}: less than OWASP's minimum of {} and {}",
                cost.memory_kib, cost.iterations, minimum.0, minimum.1
            );
            // Where only the passes were lowered, that is what to look at.
            let at = match self.values.place(keys::MEMORY_KIB.name) {
                Place::Default => keys::ITERATIONS.name,
                _ => keys::MEMORY_KIB.name,
            };
            self.warn(at, text);
        }
        cost
    }

    fn pepper_file(&mut self, tls_dir: &Path, store: &StoreUrl) -> PathBuf {
        let path = self.path_or(&keys::PEPPER_FILE, || tls_dir.join("pepper"));
        if let StoreUrl::Sqlite(file) = store
            && share_a_folder(&path, file)
        {
            // A copy of the folder, or a thief of it, would have both the hashes and the pepper.
            let reason = "the pepper may not lie in the store's folder";
            let mend = "set it to a file elsewhere, such as \"certs/pepper\"";
            self.fault(keys::PEPPER_FILE.name, reason, mend);
        }
        path
    }

    fn accounts(&mut self) -> Option<AccountsConfig> {
        let text = self.values.text(&keys::CURRENCY).to_owned();
        let currency = text.parse::<Currency>().ok();
        if currency.is_none() {
            let reason = format!("\"{}\" is no currency code of ISO 4217", shown(&text));
            let mend = "write three capitals, such as \"USD\", \"EUR\", \"GBP\" or \"JPY\"";
            self.fault(keys::CURRENCY.name, reason, mend);
        }
        Some(AccountsConfig {
            currency: currency?,
            withdrawal_limit: self.values.number(&keys::WITHDRAWAL_LIMIT),
            daily_withdrawal_limit: self.values.number(&keys::DAILY_WITHDRAWAL_LIMIT),
            hold_timeout_ms: self.natural(&keys::HOLD_TIMEOUT_MS),
        })
    }

    fn store(&mut self) -> StoreConfig {
        let url = self.store_url().unwrap_or_else(|| {
            let mend = "write \"sqlite:data/bank.db\", or \"postgres://…\": a path, without options, without spaces at its ends, and without ~ $ ? # ; % \\";
            // The text may hold a password, and is not repeated.
            self.fault(keys::STORE_URL.name, "not the URL of a store", mend);
            StoreUrl::Sqlite(PathBuf::from("data/bank.db"))
        });
        StoreConfig {
            url,
            lease: self.time(&keys::LEASE_MS),
        }
    }

    fn store_url(&self) -> Option<StoreUrl> {
        let url = self.values.text(&keys::STORE_URL);
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Some(StoreUrl::Postgres(url.to_owned()));
        }
        let rest = url.strip_prefix("sqlite:")?;
        let file = rest.strip_prefix("//").unwrap_or(rest);
        // SQLite itself would take these for a database in memory and for a URI of its own, and a
        // bank that forgets everything is none.
        let special = file.starts_with(':') || file.starts_with("file:");
        let is_file = !file.ends_with('/') && Path::new(file).file_name().is_some();
        // Nobody means these for parts of a file's name: options, escapes, another system's separators, and
        // what a shell would fill in.
        let meant_otherwise = file.contains(['?', '#', ';', '%', '$', '\\', '\0'])
            || file.starts_with('~')
            || file.trim() != file;
        let usable = is_file && !special && !meant_otherwise;
        usable.then(|| StoreUrl::Sqlite(PathBuf::from(file)))
    }

    fn metrics(&mut self, server: &ServerConfig) -> MetricsConfig {
        let key = &keys::METRICS_LISTEN;
        if self.values.text(key) == "off" {
            return MetricsConfig { listen: None };
        }
        let listen = self.address(key, "or \"off\"");
        if listen == server.listen && listen.port() != 0 {
            let reason = format!("{listen} is where terminals connect");
            self.fault(key.name, reason, "choose another port, or \"off\"");
        }
        MetricsConfig {
            listen: Some(listen),
        }
    }

    fn log(&mut self) -> LogConfig {
        LogConfig {
            format: match self.values.text(&keys::LOG_FORMAT) {
                "json" => LogFormat::Json,
                _ => LogFormat::Text,
            },
            // The key's choices are names of levels.
            level: self
                .values
                .text(&keys::LOG_LEVEL)
                .parse()
                .unwrap_or(Level::INFO),
        }
    }

    fn warn_of_strangers(&mut self, server: &ServerConfig, tls: &TlsConfig) {
        // 127.0.0.1 may be written as an address of IPv6.
        let address = server.listen.ip().to_canonical();
        if tls.client_auth == ClientAuth::Off && !address.is_loopback() {
            let text = format!(
                "[tls] client_auth = \"off\" while listening on {address}: strangers may try PINs"
            );
            self.warn(keys::CLIENT_AUTH.name, text);
        }
    }
}

/// The machine's name, as Linux tells it.
fn host_name() -> Option<String> {
    let sources = ["/proc/sys/kernel/hostname", "/etc/hostname"];
    let mut names = sources
        .iter()
        .filter_map(|file| std::fs::read_to_string(file).ok());
    names.next().map(|name| name.trim().to_owned())
}
