//! Fail points over HTTP, in builds that have them: `GET /failpoints`, `PUT /failpoints/NAME` with an action.

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::{get, put};
use tidemill_failpoint::FailPoint;

/// No route at all in a default build.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    if !tidemill_failpoint::ENABLED {
        return Router::new();
    }
    Router::new()
        .route("/failpoints", get(async || tidemill_failpoint::settings() + "\n"))
        .route("/failpoints/{name}", put(set))
}

async fn set(Path(name): Path<String>, action: String) -> (StatusCode, String) {
    let outcome = FailPoint::named(&name).and_then(|point| point.set(action.trim()));
    match outcome {
        Ok(()) => {
            tracing::warn!(name, action, "a fail point was set");
            (StatusCode::OK, format!("{name}={action}\n"))
        }
        Err(error @ tidemill_failpoint::Error::Unknown { .. }) => (StatusCode::NOT_FOUND, format!("{error}\n")),
        Err(error @ (tidemill_failpoint::Error::Action { .. } | tidemill_failpoint::Error::Assignment { .. })) => {
            (StatusCode::BAD_REQUEST, format!("{error}\n"))
        }
    }
}
