//! Paths to engine and desk.

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{ConnectInfo, DefaultBodyLimit, FromRequest, FromRequestParts, State};
use axum::http::{Method, Uri};
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};

use super::{Caller, No, Shared, foreign, hook, insight, metrics, start, usage};
use crate::engine::{Happened, WantedHistory};
use crate::model::{AllocationId, Kind, MdevUuid, Profile, ProfileName, Refusal};
use crate::wire;

/// Most bytes of a request's body; a hook's list of devices is the largest.
const MOST_BODY: usize = 256 * 1024;

/// A JSON body whose faults are told as a [`Refusal`].
#[derive(Debug, FromRequest)]
#[from_request(via(Json), rejection(No))]
pub(super) struct Body<T>(pub(super) T);

/// What a part of the path says; a fault of it is told as a [`Refusal`].
#[derive(Debug, FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(No))]
pub(super) struct Path<T>(pub(super) T);

/// What follows the question mark; a fault of it is told as a [`Refusal`].
#[derive(Debug, FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(No))]
pub(super) struct Query<T>(pub(super) T);

impl From<PathRejection> for No {
    fn from(rejection: PathRejection) -> Self {
        Refusal::new(Kind::Usage, crate::model::one_line(&rejection.body_text(), 300)).into()
    }
}

impl From<QueryRejection> for No {
    fn from(rejection: QueryRejection) -> Self {
        Refusal::new(Kind::Usage, crate::model::one_line(&rejection.body_text(), 300)).into()
    }
}

impl From<JsonRejection> for No {
    fn from(rejection: JsonRejection) -> Self {
        Refusal::new(Kind::Usage, crate::model::one_line(&rejection.body_text(), 300)).into()
    }
}

/// Builds the router of version 1.
pub(super) fn router(shared: Shared) -> Router {
    Router::new()
        .route("/v1/gpus", get(gpus))
        .route("/metrics", get(metrics::metrics))
        .route("/v1/usage", get(usage::usage))
        .route("/v1/status", get(status))
        .route("/v1/boot-report", get(boot_report))
        .route("/v1/check", post(super::check::check))
        .route("/v1/history", get(history))
        .route("/v1/capacity", get(insight::capacity))
        .route("/v1/topology", get(insight::topology))
        .route("/v1/explain", get(insight::explain))
        .route("/v1/profiles", get(profiles))
        .route("/v1/profiles/{name}", get(profile).put(create_profile).delete(delete_profile))
        .route("/v1/profiles/{name}/explain", get(explain))
        .route("/v1/profiles/{name}/edit", post(edit_profile))
        .route("/v1/allocations", get(allocations).post(allocate))
        .route("/v1/detach", post(detach))
        .route("/v1/start", post(start::start))
        .route("/v1/queue", get(start::queue))
        .route("/v1/room", post(start::room))
        .route("/v1/queue/cancel", post(start::cancel))
        .route("/v1/terms", post(set_terms))
        .route("/v1/gpus/{gpu}", put(set_gpu).delete(forget_gpu))
        .route("/v1/vfs", delete(forget_all_vfs))
        .route("/v1/vfs/{pf}", put(set_vfs).delete(forget_vfs))
        .route("/v1/mdevs", post(create_mdev))
        .route("/v1/mdevs/{uuid}", delete(remove_mdev))
        .route("/v1/mdevs/{uuid}/adopt", post(foreign::adopt_mdev))
        .route("/v1/adopt", post(foreign::adopt))
        .route("/v1/disown", post(foreign::disown))
        .route("/v1/rebuild", post(foreign::rebuild))
        .route("/v1/hook", post(hook::hook))
        .fallback(nothing_here)
        .method_not_allowed_fallback(not_that_way)
        .layer(DefaultBodyLimit::max(MOST_BODY))
        .with_state(shared)
}

async fn nothing_here(uri: Uri) -> No {
    Refusal::new(Kind::NotFound, format!("nothing at {}", crate::model::one_line(uri.path(), 80))).into()
}

async fn not_that_way(method: Method, uri: Uri) -> No {
    let path = crate::model::one_line(uri.path(), 80);
    Refusal::new(Kind::Usage, format!("{method} is no method of {path}")).into()
}

/// Runs `job` off the loop, and writes what came of it into the history when it is named.
pub(super) async fn run<T: Send + 'static>(
    shared: &Shared,
    job: impl FnOnce(&Shared) -> Result<T, Refusal> + Send + 'static,
) -> Result<T, No> {
    let shared = shared.clone();
    match tokio::task::spawn_blocking(move || job(&shared)).await {
        Ok(result) => result.map_err(No::from),
        Err(_) => {
            Err(Refusal::new(Kind::Internal, "the request ended in a panic; the log says where").into())
        }
    }
}

/// As [`run`], for requests that change something: refused while the database is shut.
pub(super) async fn run_recorded<T: Send + 'static>(
    shared: &Shared,
    caller: Caller,
    happened: Happened,
    job: impl FnOnce(&Shared, &mut Happened) -> Result<T, Refusal> + Send + 'static,
) -> Result<Json<T>, No> {
    let guarded = move |shared: &Shared, happened: &mut Happened| {
        shared.desk.engine().writable()?;
        job(shared, happened)
    };
    run_always(shared, caller, happened, guarded).await
}

/// As [`run`]: who asked for what and what came of it goes into the history. The job may say what else it
/// turned out to be about.
pub(super) async fn run_always<T: Send + 'static>(
    shared: &Shared,
    caller: Caller,
    mut happened: Happened,
    job: impl FnOnce(&Shared, &mut Happened) -> Result<T, Refusal> + Send + 'static,
) -> Result<Json<T>, No> {
    let answer = run(shared, move |shared| {
        let result = job(shared, &mut happened);
        let outcome = result.as_ref().map_or_else(|refusal| refusal.message.clone(), |_| "done".to_owned());
        shared.desk.engine().record(caller.0, happened, &outcome);
        result
    });
    answer.await.map(Json)
}

/// An entry about a thing that is no domain.
fn about(verb: &'static str, object: String) -> Happened {
    Happened { verb, object, ..Happened::default() }
}

type Answer<T> = Result<Json<T>, No>;
type From_ = ConnectInfo<Caller>;

async fn gpus(State(shared): State<Shared>) -> Answer<wire::Gpus> {
    run(&shared, |shared| shared.desk.engine().gpus()).await.map(Json)
}

async fn status(State(shared): State<Shared>) -> Answer<wire::Status> {
    let answer = run(&shared, |shared| {
        let mut status = shared.desk.status();
        status.nvml = shared.nvml_said.get().cloned().unwrap_or_else(|| "not answered yet".to_owned());
        Ok(status)
    });
    answer.await.map(Json)
}

async fn boot_report(State(shared): State<Shared>) -> Answer<wire::BootReport> {
    run(&shared, |shared| Ok(shared.desk.engine().boot_report())).await.map(Json)
}

async fn profiles(State(shared): State<Shared>) -> Answer<wire::Profiles> {
    run(&shared, |shared| Ok(shared.desk.engine().profiles())).await.map(Json)
}

async fn profile(State(shared): State<Shared>, Path(name): Path<String>) -> Answer<Profile> {
    let name = parse::<ProfileName>(&name)?;
    run(&shared, move |shared| shared.desk.engine().profile(&name)).await.map(Json)
}

async fn create_profile(
    State(shared): State<Shared>,
    ConnectInfo(caller): From_,
    Path(name): Path<String>,
    Body(profile): Body<Profile>,
) -> Answer<wire::Changed> {
    if profile.name.as_str() != name {
        return Err(Refusal::new(Kind::Usage, format!("the body is of profile {}", profile.name)).into());
    }
    run_recorded(&shared, caller, about("profile create", name), move |shared, _| {
        shared.desk.engine().create_profile(&profile)
    })
    .await
}

async fn delete_profile(
    State(shared): State<Shared>,
    ConnectInfo(caller): From_,
    Path(name): Path<String>,
) -> Answer<wire::Changed> {
    let parsed = parse::<ProfileName>(&name)?;
    run_recorded(&shared, caller, about("profile delete", name), move |shared, _| {
        shared.desk.engine().delete_profile(&parsed)
    })
    .await
}

async fn explain(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    Query(asked): Query<AskedExplanation>,
) -> Answer<wire::Explanation> {
    let name = parse::<ProfileName>(&name)?;
    run(&shared, move |shared| shared.desk.engine().explain(&name, asked.allocation.as_ref())).await.map(Json)
}

async fn edit_profile(
    State(shared): State<Shared>,
    ConnectInfo(caller): From_,
    Path(name): Path<String>,
    Body(edit): Body<wire::EditProfile>,
) -> Answer<wire::Edited> {
    if edit.wanted.name.as_str() != name {
        return Err(Refusal::new(Kind::Usage, format!("the body is of profile {}", edit.wanted.name)).into());
    }
    let verb = if edit.dry_run { "profile edit --dry-run" } else { "profile edit" };
    run_recorded(&shared, caller, about(verb, name), move |shared, happened| {
        let edited = shared.desk.edit_profile(&edit)?;
        happened.allocations = edited.affected.iter().map(|one| one.allocation.clone()).collect();
        Ok(edited)
    })
    .await
}

async fn set_terms(
    State(shared): State<Shared>,
    ConnectInfo(caller): From_,
    Body(request): Body<wire::SetTerms>,
) -> Answer<wire::Changed> {
    let verb = if request.unsettle { "allocation unsettle" } else { "allocation set" };
    run_recorded(&shared, caller, about(verb, domain_of(&request.which)), move |shared, happened| {
        let (changed, chosen) = shared.desk.set_terms(&request)?;
        happened.domain = chosen.first().map(|one| one.domain.name.clone());
        happened.allocations = chosen.into_iter().map(|one| one.id).collect();
        Ok(changed)
    })
    .await
}

async fn allocations(State(shared): State<Shared>) -> Answer<wire::Allocations> {
    run(&shared, |shared| shared.desk.engine().allocations()).await.map(Json)
}

async fn allocate(
    State(shared): State<Shared>,
    ConnectInfo(caller): From_,
    Body(request): Body<wire::Allocate>,
) -> Answer<wire::Allocated> {
    let object = format!(
        "{} x {} for {}",
        request.count,
        request.profile,
        crate::model::one_line(&request.domain, 80)
    );
    let verb = match (request.dry_run, request.through) {
        (true, _) => "attach --dry-run",
        (false, wire::Through::Definition) => "attach",
        (false, wire::Through::Live) => "attach --live",
        (false, wire::Through::Xml) => "xml",
        (false, wire::Through::LiveXml) => "xml --live",
    };
    let happened = Happened { verb, object, domain: Some(domain_of(&request.domain)), ..Happened::default() };
    run_recorded(&shared, caller, happened, move |shared, happened| {
        let allocated = shared.desk.allocate(&request)?;
        let domain = allocated.allocations.first().map(|one| one.allocation.domain.uuid);
        happened.decisions = domain.map(|uuid| shared.desk.engine().take_decisions(uuid)).unwrap_or_default();
        happened.allocations = allocated.allocations.iter().map(|one| one.allocation.id.clone()).collect();
        Ok(allocated)
    })
    .await
}

async fn detach(
    State(shared): State<Shared>,
    ConnectInfo(caller): From_,
    Body(request): Body<wire::Detach>,
) -> Answer<wire::Changed> {
    let object = crate::model::one_line(&request.domain, 80);
    let allocations = request.allocation.iter().cloned().collect();
    let happened =
        Happened { verb: "detach", domain: Some(object.clone()), object, allocations, ..Happened::default() };
    run_recorded(&shared, caller, happened, move |shared, happened| {
        let (changed, ids) = shared.desk.detach(&request)?;
        happened.allocations = ids;
        Ok(changed)
    })
    .await
}

async fn set_gpu(
    State(shared): State<Shared>,
    ConnectInfo(caller): From_,
    Path(gpu): Path<String>,
    Body(wanted): Body<wire::SetGpu>,
) -> Answer<wire::Changed> {
    if wanted.dry_run {
        return run(&shared, move |shared| shared.desk.engine().set_gpu(&gpu, &wanted)).await.map(Json);
    }
    let object = format!("{} {wanted}", crate::model::one_line(&gpu, 80));
    run_recorded(&shared, caller, about("gpu set", object), move |shared, _| {
        shared.desk.engine().set_gpu(&gpu, &wanted)
    })
    .await
}

async fn forget_gpu(
    State(shared): State<Shared>,
    ConnectInfo(caller): From_,
    Path(gpu): Path<String>,
) -> Answer<wire::Changed> {
    let object = crate::model::one_line(&gpu, 80);
    run_recorded(&shared, caller, about("gpu forget", object), move |shared, _| {
        shared.desk.engine().forget_gpu(&gpu)
    })
    .await
}

async fn set_vfs(
    State(shared): State<Shared>,
    ConnectInfo(caller): From_,
    Path(pf): Path<String>,
    Body(wanted): Body<wire::SetVfs>,
) -> Answer<wire::Changed> {
    let object = format!("{} {}", crate::model::one_line(&pf, 80), wanted.count);
    run_recorded(&shared, caller, about("vfs set", object), move |shared, _| {
        shared.desk.engine().set_vfs(&pf, wanted.count)
    })
    .await
}

async fn forget_vfs(
    State(shared): State<Shared>,
    ConnectInfo(caller): From_,
    Path(pf): Path<String>,
) -> Answer<wire::Changed> {
    let object = crate::model::one_line(&pf, 80);
    run_recorded(&shared, caller, about("vfs forget", object), move |shared, _| {
        shared.desk.engine().forget_vfs(&pf)
    })
    .await
}

async fn forget_all_vfs(State(shared): State<Shared>, ConnectInfo(caller): From_) -> Answer<wire::Changed> {
    run_recorded(&shared, caller, about("vfs forget", "all".to_owned()), |shared, _| {
        shared.desk.engine().forget_all_vfs()
    })
    .await
}

async fn create_mdev(
    State(shared): State<Shared>,
    ConnectInfo(caller): From_,
    Body(request): Body<wire::CreateMdev>,
) -> Answer<wire::CreatedMdev> {
    let object = format!("{} on {}", request.mdev_type, request.parent);
    run_recorded(&shared, caller, about("mdev create", object), move |shared, _| {
        shared.desk.engine().create_mdev(&request)
    })
    .await
}

async fn remove_mdev(
    State(shared): State<Shared>,
    ConnectInfo(caller): From_,
    Path(uuid): Path<String>,
) -> Answer<wire::Changed> {
    let parsed = parse::<MdevUuid>(&uuid)?;
    run_recorded(&shared, caller, about("mdev remove", parsed.to_string()), move |shared, _| {
        shared.desk.engine().remove_mdev(parsed)
    })
    .await
}

async fn history(State(shared): State<Shared>, Query(asked): Query<AskedHistory>) -> Answer<wire::History> {
    let wanted = WantedHistory {
        domain: asked.domain,
        allocation: asked.allocation,
        limit: asked.limit.unwrap_or(HISTORY).min(MOST_HISTORY),
    };
    let answer =
        run(&shared, move |shared| Ok(wire::History { entries: shared.desk.engine().history(&wanted)? }));
    answer.await.map(Json)
}

/// Entries of the history in one answer, unless asked otherwise, and at most.
const HISTORY: usize = 100;
const MOST_HISTORY: usize = 10_000;

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedHistory {
    domain: Option<String>,
    allocation: Option<AllocationId>,
    limit: Option<usize>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedExplanation {
    allocation: Option<AllocationId>,
}

pub(super) fn domain_of(asked: &str) -> String {
    crate::model::one_line(asked, 80)
}

pub(super) fn parse<T: std::str::FromStr>(text: &str) -> Result<T, No>
where
    T::Err: std::error::Error,
{
    text.parse().map_err(|error: T::Err| Refusal::from_error(Kind::Usage, &error).into())
}
