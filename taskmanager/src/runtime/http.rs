//! Health, readiness and metrics over HTTP.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::agent_loop::Status;
use super::metrics::Metrics;

#[derive(Clone)]
struct Shown {
    metrics: Arc<Metrics>,
    status: watch::Receiver<Status>,
}

/// Serves until the process ends.
pub(crate) async fn run(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    status: watch::Receiver<Status>,
) -> io::Result<()> {
    let router = Router::new()
        .route("/health", get(async || "ok\n"))
        .route("/ready", get(ready))
        .route("/metrics", get(show))
        .merge(tidemill_failpoint::http::routes())
        .with_state(Shown { metrics, status });
    axum::serve(listener, router).await
}

async fn ready(State(shown): State<Shown>) -> (StatusCode, &'static str) {
    let connected = shown.status.borrow().connected;
    if connected {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not registered: no leader found; see coordinator.addresses\n")
    }
}

async fn show(State(shown): State<Shown>) -> Response {
    let text = shown.metrics.render(&shown.status.borrow());
    match text {
        Ok(text) => {
            let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(CONTENT_TYPE, content_type)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
