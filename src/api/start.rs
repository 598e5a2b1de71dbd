//! Starting domains, and the line of those that wait for room.

use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::{ConnectInfo, State};

use super::hook::HangUp;
use super::routes::{Body, domain_of, run, run_recorded};
use super::{Caller, No, Shared};
use crate::desk::Desk;
use crate::engine::Happened;
use crate::wire;

/// Serves `POST /v1/start`. A start that waits ends when its caller hangs up.
pub(super) async fn start(
    State(shared): State<Shared>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Body(request): Body<wire::Start>,
) -> Result<Json<wire::Started>, No> {
    let object = domain_of(&request.domain);
    let verb = match (request.dry_run, request.wait_s) {
        (true, _) => "start --dry-run",
        (false, Some(_)) => "start --wait",
        (false, None) if request.preempt => "start --preempt",
        (false, None) => "start",
    };
    let happened = Happened { verb, domain: Some(object.clone()), object, ..Happened::default() };
    let (mut waiting, flag) = HangUp::new();
    let answer = run_recorded(&shared, caller, happened, move |shared, happened| {
        let started = shared.desk.start_in_turn(&request, &|| flag.load(Ordering::SeqCst))?;
        happened.allocations = Desk::started_ids(&started);
        Ok(started)
    })
    .await;
    waiting.answered();
    answer
}

/// Serves `POST /v1/room`.
pub(super) async fn room(
    State(shared): State<Shared>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Body(request): Body<wire::MakeRoom>,
) -> Result<Json<wire::RoomMade>, No> {
    if !request.apply {
        return run(&shared, move |shared| shared.desk.make_room(&request)).await.map(Json);
    }
    let verb = if request.profile.is_some() { "make-room" } else { "defrag" };
    let object = request.profile.as_ref().map_or_else(|| "the host".to_owned(), ToString::to_string);
    let happened = Happened { verb, object, ..Happened::default() };
    run_recorded(&shared, caller, happened, move |shared, _| shared.desk.make_room(&request)).await
}

/// Serves `GET /v1/queue`.
pub(super) async fn queue(State(shared): State<Shared>) -> Result<Json<wire::Queue>, No> {
    run(&shared, |shared| Ok(shared.desk.engine().queue())).await.map(Json)
}

/// Serves `POST /v1/queue/cancel`.
pub(super) async fn cancel(
    State(shared): State<Shared>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Body(request): Body<wire::CancelWait>,
) -> Result<Json<wire::Changed>, No> {
    let object = domain_of(&request.domain);
    let happened =
        Happened { verb: "queue cancel", domain: Some(object.clone()), object, ..Happened::default() };
    run_recorded(&shared, caller, happened, move |shared, _| shared.desk.cancel_wait(&request)).await
}
