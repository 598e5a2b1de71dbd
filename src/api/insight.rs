//! What the host still holds, and why slices are where they are.

use axum::Json;
use axum::extract::State;

use super::routes::{Query, run};
use super::{No, Shared};
use crate::wire;

/// Serves `GET /v1/capacity`.
pub(super) async fn capacity(State(shared): State<Shared>) -> Result<Json<wire::Capacity>, No> {
    run(&shared, |shared| shared.desk.engine().capacity()).await.map(Json)
}

/// What is to be explained.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    of: String,
}

/// Serves `GET /v1/explain`.
pub(super) async fn explain(
    State(shared): State<Shared>,
    Query(asked): Query<Asked>,
) -> Result<Json<wire::Explained>, No> {
    run(&shared, move |shared| shared.desk.engine().explain_anything(&asked.of)).await.map(Json)
}
