//! `POST /v1/adopt`, `/v1/mdevs/UUID/adopt`, `/v1/disown` and `/v1/rebuild`.

use axum::Json;
use axum::extract::{ConnectInfo, Path, State};

use super::routes::{Body, parse, run, run_recorded};
use super::{Caller, No, Shared};
use crate::engine::Happened;
use crate::model::{MdevUuid, one_line};
use crate::wire;

type Answer<T> = Result<Json<T>, No>;

pub(super) async fn adopt(
    State(shared): State<Shared>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Body(request): Body<wire::Adopt>,
) -> Answer<wire::Adopted> {
    let object = one_line(&request.domain, 80);
    let verb = if request.dry_run { "adopt --dry-run" } else { "adopt" };
    let happened = Happened { verb, domain: Some(object.clone()), object, ..Happened::default() };
    run_recorded(&shared, caller, happened, move |shared, happened| {
        let adopted = shared.desk.adopt(&request)?;
        if !request.dry_run {
            happened.allocations = adopted.allocations.iter().map(|one| one.allocation.id.clone()).collect();
        }
        Ok(adopted)
    })
    .await
}

pub(super) async fn adopt_mdev(
    State(shared): State<Shared>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Path(uuid): Path<String>,
    Body(request): Body<wire::AdoptMdev>,
) -> Answer<wire::Changed> {
    let uuid = parse::<MdevUuid>(&uuid)?;
    let verb = if request.dry_run { "adopt --uuid --dry-run" } else { "adopt --uuid" };
    let happened = Happened { verb, object: uuid.to_string(), ..Happened::default() };
    run_recorded(&shared, caller, happened, move |shared, _| {
        shared.desk.engine().adopt_mdev(uuid, request.dry_run)
    })
    .await
}

pub(super) async fn disown(
    State(shared): State<Shared>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Body(request): Body<wire::Disown>,
) -> Answer<wire::Changed> {
    let allocation = request.allocation.as_ref().map(ToString::to_string);
    let object = allocation.or_else(|| request.mdev.map(|uuid| uuid.to_string())).unwrap_or_default();
    let verb = if request.dry_run { "disown --dry-run" } else { "disown" };
    let happened = Happened { verb, object, ..Happened::default() };
    run_recorded(&shared, caller, happened, move |shared, happened| {
        let (changed, allocation) = shared.desk.disown(&request)?;
        if let Some(one) = allocation {
            happened.domain = Some(one.domain.name);
            happened.allocations = vec![one.id];
        }
        Ok(changed)
    })
    .await
}

/// Allowed while the database is shut: it is what opens it. A rebuild of one that was shut is in the new history
/// already; this entry says who asked.
pub(super) async fn rebuild(
    State(shared): State<Shared>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Body(request): Body<wire::Rebuild>,
) -> Answer<wire::Rebuilt> {
    let verb = if request.dry_run { "adopt --rebuild --dry-run" } else { "adopt --rebuild" };
    let answer = run(&shared, move |shared| {
        let done = shared.desk.rebuild(request.dry_run);
        let outcome = done.as_ref().map_or_else(|refusal| refusal.message.clone(), |_| "done".to_owned());
        let allocations = done.iter().filter(|_| !request.dry_run).flat_map(|done| &done.allocations);
        let allocations = allocations.map(|one| one.allocation.id.clone()).collect();
        let happened =
            Happened { verb, object: "all domains".to_owned(), allocations, ..Happened::default() };
        shared.desk.engine().record(caller.peer(), happened, &outcome);
        done
    });
    answer.await.map(Json)
}
