//! What cannot work together. Asks and changes nothing, so nothing of it is in the history.

use axum::Json;
use axum::extract::State;

use super::routes::{Body, run};
use super::{No, Shared};
use crate::wire;

pub(super) async fn check(
    State(shared): State<Shared>,
    Body(request): Body<wire::Check>,
) -> Result<Json<wire::Checked>, No> {
    run(&shared, move |shared| shared.desk.check(&request)).await.map(Json)
}
