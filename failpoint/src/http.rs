//! Fail points over HTTP, in builds that have them: `GET /failpoints`, `PUT /failpoints/NAME` with an action.

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::{get, put};

use super::{ENABLED, Error, FailPoint, settings};

/// No route at all in a build without fail points.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    if !ENABLED {
        return Router::new();
    }
    Router::new().route("/failpoints", get(async || settings() + "\n")).route("/failpoints/{name}", put(set))
}

async fn set(Path(name): Path<String>, action: String) -> (StatusCode, String) {
    let outcome = FailPoint::named(&name).and_then(|point| point.set(action.trim()));
    match outcome {
        Ok(()) => {
            tracing::warn!(name, action, "a fail point was set");
            (StatusCode::OK, format!("{name}={action}\n"))
        }
        Err(error @ Error::Unknown { .. }) => (StatusCode::NOT_FOUND, format!("{error}\n")),
        Err(error @ (Error::Action { .. } | Error::Assignment { .. })) => {
            (StatusCode::BAD_REQUEST, format!("{error}\n"))
        }
    }
}
