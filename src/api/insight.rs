//! What the host still holds, and why slices are where they are.

use axum::Json;
use axum::extract::State;

use super::routes::{Query, run};
use super::{No, Shared};
use crate::model::Refusal;
use crate::topology::{self, Topology};
use crate::wire;

/// Serves `GET /v1/capacity`.
pub(super) async fn capacity(State(shared): State<Shared>) -> Result<Json<wire::Capacity>, No> {
    run(&shared, |shared| shared.desk.engine().capacity()).await.map(Json)
}

/// Serves `GET /v1/topology`.
pub(super) async fn topology(State(shared): State<Shared>) -> Result<Json<Topology>, No> {
    let answer = run(&shared, |shared| {
        let seen = shared.desk.engine().topology()?;
        let known = shared.nvml.pairs().map_err(|error| Refusal::from(error).message);
        Ok(topology::describe(&seen, known.as_deref().map_err(String::as_str)))
    });
    answer.await.map(Json)
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
