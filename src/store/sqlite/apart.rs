//! Reading at length, on a thread and a connection of its own, for as long as somebody waits.

use std::path::Path;

use rusqlite::Connection;
use tokio_util::sync::CancellationToken;

use super::open;
use crate::store::StoreError;

/// Steps of SQLite's machine between two looks at whether anybody still waits.
const STEPS: i32 = 10_000;

/// Opens the store anew and reads. Where the asker goes away, or its deadline is over, the reading
/// ends too: it holds the journal, and a place among the staff's.
pub(super) async fn read<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let path = path.to_owned();
    let gone = CancellationToken::new();
    let _asker = gone.clone().drop_guard();
    let reading = tokio::task::spawn_blocking(move || {
        let mut connection = open::reader(&path)?;
        connection.progress_handler(STEPS, Some(move || gone.is_cancelled()))?;
        work(&connection)
    });
    reading.await.map_err(|_| StoreError::Closed)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::row_mac::Keyring;
    use crate::domain::Timestamp;
    use crate::store::sqlite::SqliteStore;

    #[tokio::test]
    async fn a_long_reading_ends_when_nobody_waits_for_it_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bank.db");
        let now = Timestamp::from_unix_ms(1);
        let (currency, keyring) = ("USD".parse().unwrap(), Keyring::empty());
        drop(SqliteStore::open(&path, currency, now, keyring).unwrap());
        let (begins, begun) = tokio::sync::oneshot::channel();
        let (ends, ended) = tokio::sync::oneshot::channel();
        let reading = tokio::spawn(async move {
            let endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) \
                           SELECT max(x) FROM n";
            let work = move |connection: &Connection| {
                begins.send(()).unwrap();
                let read = connection.query_row(endless, [], |row| row.get::<_, i64>(0));
                ends.send(read.is_err()).unwrap();
                Ok(())
            };
            read(&path, work).await
        });
        begun.await.unwrap();
        reading.abort();
        assert_eq!(ended.await, Ok(true));
    }
}
