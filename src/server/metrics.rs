//! A listener for monitoring: `/metrics`, `/health/live`, `/health/ready`.

use std::convert::Infallible;
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::Server;
use crate::limits;
use crate::store::Committed;

impl Server {
    /// Serves monitoring until the server is drained.
    pub async fn serve_metrics(self: &Arc<Self>, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(limits::METRICS_CONNECTIONS_MAX));
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.draining.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(limits::ACCEPT_BACKOFF).await;
                continue;
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                continue;
            };
            let server = Arc::clone(self);
            tokio::spawn(async move {
                let service = service_fn(|request| std::future::ready(server.monitor(&request)));
                let serving = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(limits::METRICS_TIMEOUT)
                    .max_buf_size(limits::METRICS_HEADER_BYTES_MAX)
                    .keep_alive(false)
                    .serve_connection(TokioIo::new(stream), service);
                // A monitor that goes away in the middle is no event.
                let _ = timeout(limits::METRICS_TIMEOUT, serving).await;
                drop(place);
            });
        }
    }

    fn monitor(&self, request: &Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (status, kind, text) = match (request.method(), request.uri().path()) {
            (&Method::GET, "/metrics") => {
                let writable = i64::from(self.bank.is_writable());
                self.metrics.storage_writable.set(writable);
                let journal = i64::try_from(self.bank.journal_bytes()).unwrap_or(i64::MAX);
                self.metrics.store_wal_bytes.set(journal);
                let Committed { commits, calls } = self.bank.committed();
                self.metrics.set_committed(commits, calls);
                if let Some(clock) = self.bank.clock() {
                    let ahead_ms = clock.wall.unix_ms().saturating_sub(clock.trusted.unix_ms());
                    self.metrics
                        .clock_guarded
                        .set(i64::from(clock.guard.is_some()));
                    self.metrics.clock_difference_seconds.set(ahead_ms / 1_000);
                }
                (
                    StatusCode::OK,
                    "application/openmetrics-text; version=1.0.0; charset=utf-8",
                    self.metrics.encode(),
                )
            }
            (&Method::GET, "/health/live") => (StatusCode::OK, "text/plain", "live\n".to_owned()),
            (&Method::GET, "/health/ready") if self.draining.is_cancelled() => (
                StatusCode::SERVICE_UNAVAILABLE,
                "text/plain",
                "going down\n".to_owned(),
            ),
            (&Method::GET, "/health/ready") if !self.bank.is_writable() => (
                StatusCode::SERVICE_UNAVAILABLE,
                "text/plain",
                "storage unavailable\n".to_owned(),
            ),
            (&Method::GET, "/health/ready") => {
                let clock = self.bank.clock();
                let guarded = clock.and_then(|clock| Some((clock, clock.guard?)));
                let (status, text) = match guarded {
                    None => (StatusCode::OK, "ready\n".to_owned()),
                    // One step of the clock must not take a bank out of its load balancer.
                    Some((clock, guard)) if clock.serves_money() => {
                        (StatusCode::OK, format!("ready; clock guarded: {guard}\n"))
                    }
                    Some((_, guard)) => {
                        let text = format!("no money is served: {guard}\n");
                        (StatusCode::SERVICE_UNAVAILABLE, text)
                    }
                };
                (status, "text/plain", text)
            }
            _ => (
                StatusCode::NOT_FOUND,
                "text/plain",
                "not found\n".to_owned(),
            ),
        };
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        response
            .headers_mut()
            .insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
        Ok(response)
    }
}
