//! Everything that can be asked for on this plane, and who may.

use axum::http::Method;
use axum::routing::{MethodRouter, delete, get, patch, post, put};

use super::{Shared, api, events, forms, openapi, pages, policy_pages};
use crate::auth::Action;

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody. Each of these is in the reviewed list of `tests/`.
    Public,
    /// Whoever is recognised.
    SignedIn,
    /// Whoever may do this. The service asks again by itself; tests hold the two together.
    Needs(Action),
}

/// One method on one path.
#[derive(Debug)]
pub struct Route {
    pub method: Method,
    pub path: &'static str,
    pub access: Access,
    pub(super) handler: MethodRouter<Shared>,
}

/// All of them.
#[must_use]
pub fn all() -> Vec<Route> {
    let mut routes = api_routes();
    routes.extend(page_routes());
    routes
}

fn api_routes() -> Vec<Route> {
    use Access::{Needs, Public, SignedIn};
    use Action::{
        ApproveMachine, CancelTask, CheckServer, CreateTask, DeleteImage, DeleteMachine,
        EditMachine, Look, ManageTokens, ManageUsers, ReadAudit, ReadImageContent, ReleaseLease,
        SetPolicy, VerifyImage, WakeMachine, WriteImage,
    };
    vec![
        route("GET", "/api/v1/health", Public, get(api::health)),
        route("POST", "/api/v1/sessions", Public, post(api::sign_in)),
        route("POST", "/api/v1/setup", Public, post(api::set_up)),
        route(
            "DELETE",
            "/api/v1/sessions/current",
            SignedIn,
            delete(api::sign_out),
        ),
        route("GET", "/api/v1/me", SignedIn, get(api::me)),
        route(
            "GET",
            "/api/v1/openapi.json",
            SignedIn,
            get(openapi::document),
        ),
        route("GET", "/api/v1/events", Needs(Look), get(events::stream)),
        route("GET", "/api/v1/status", Needs(Look), get(api::status)),
        route(
            "GET",
            "/api/v1/doctor/lines/{server}",
            Needs(Look),
            get(api::doctor_lines),
        ),
        route(
            "GET",
            "/api/v1/doctor",
            Needs(CheckServer),
            get(api::doctor),
        ),
        route("GET", "/api/v1/audit", Needs(ReadAudit), get(api::audit)),
        route("GET", "/api/v1/timeline", Needs(Look), get(api::latest)),
        route("GET", "/api/v1/machines", Needs(Look), get(api::machines)),
        route(
            "POST",
            "/api/v1/machines",
            Needs(EditMachine),
            post(api::add_machine),
        ),
        route(
            "GET",
            "/api/v1/machines/{id}",
            Needs(Look),
            get(api::machine),
        ),
        route(
            "PATCH",
            "/api/v1/machines/{id}",
            Needs(EditMachine),
            patch(api::change_machine),
        ),
        route(
            "POST",
            "/api/v1/machines/{id}/approve",
            Needs(ApproveMachine),
            post(api::approve_machine),
        ),
        route(
            "POST",
            "/api/v1/machines/{id}/wake",
            Needs(WakeMachine),
            post(api::wake_machine),
        ),
        route(
            "POST",
            "/api/v1/machines/{id}/code",
            Needs(CreateTask),
            post(api::menu_code),
        ),
        route(
            "POST",
            "/api/v1/machines/{id}/disable",
            Needs(ApproveMachine),
            post(api::disable_machine),
        ),
        route(
            "GET",
            "/api/v1/machines/{id}/timeline",
            Needs(Look),
            get(api::timeline),
        ),
        route(
            "GET",
            "/api/v1/machines/{id}/capture",
            Needs(Look),
            get(api::capture),
        ),
        route(
            "GET",
            "/api/v1/machines/{id}/compare",
            Needs(Look),
            get(api::compare_boots),
        ),
        route(
            "GET",
            "/api/v1/machines/{id}/delete",
            Needs(DeleteMachine),
            get(api::plan_delete_machine),
        ),
        route(
            "POST",
            "/api/v1/machines/{id}/delete",
            Needs(DeleteMachine),
            post(api::delete_machine),
        ),
        route("GET", "/api/v1/tasks", Needs(Look), get(api::tasks)),
        route(
            "POST",
            "/api/v1/tasks",
            Needs(CreateTask),
            post(api::create_tasks),
        ),
        route(
            "POST",
            "/api/v1/tasks/plan",
            Needs(CreateTask),
            post(api::plan_tasks),
        ),
        route("GET", "/api/v1/tasks/{id}", Needs(Look), get(api::task)),
        route(
            "POST",
            "/api/v1/tasks/{id}/cancel",
            Needs(CancelTask),
            post(api::cancel_task),
        ),
        route(
            "POST",
            "/api/v1/tasks/{id}/requeue",
            Needs(CreateTask),
            post(api::requeue_task),
        ),
        route(
            "GET",
            "/api/v1/tasks/{id}/retry",
            Needs(CreateTask),
            get(api::plan_retry),
        ),
        route(
            "POST",
            "/api/v1/tasks/{id}/retry",
            Needs(CreateTask),
            post(api::retry_task),
        ),
        route("GET", "/api/v1/images", Needs(Look), get(api::images)),
        route("GET", "/api/v1/images/{name}", Needs(Look), get(api::image)),
        route(
            "GET",
            "/api/v1/images/{name}/{version}",
            Needs(Look),
            get(api::image_version),
        ),
        route(
            "POST",
            "/api/v1/images/{name}/{version}/verify",
            Needs(VerifyImage),
            post(api::verify_image),
        ),
        route(
            "GET",
            "/api/v1/images/{name}/{version}/delete",
            Needs(DeleteImage),
            get(api::plan_delete_image),
        ),
        route(
            "POST",
            "/api/v1/images/{name}/{version}/delete",
            Needs(DeleteImage),
            post(api::delete_image),
        ),
        route(
            "GET",
            "/api/v1/store/prune",
            Needs(DeleteImage),
            get(api::plan_prune),
        ),
        route(
            "POST",
            "/api/v1/store/prune",
            Needs(DeleteImage),
            post(api::prune),
        ),
        route(
            "POST",
            "/api/v1/store/missing",
            Needs(WriteImage),
            post(api::missing),
        ),
        route(
            "POST",
            "/api/v1/store/chunks",
            Needs(WriteImage),
            post(api::put_chunks),
        ),
        route(
            "POST",
            "/api/v1/store/commit",
            Needs(WriteImage),
            post(api::commit),
        ),
        route(
            "POST",
            "/api/v1/store/fetch",
            Needs(ReadImageContent),
            post(api::fetch),
        ),
        route(
            "GET",
            "/api/v1/store/manifests/{image}/{version}",
            Needs(ReadImageContent),
            get(api::manifest),
        ),
        route("GET", "/api/v1/leases", Needs(Look), get(api::leases)),
        route(
            "GET",
            "/api/v1/leases/{ip}/release",
            Needs(ReleaseLease),
            get(api::plan_release_lease),
        ),
        route(
            "POST",
            "/api/v1/leases/{ip}/release",
            Needs(ReleaseLease),
            post(api::release_lease),
        ),
        route("GET", "/api/v1/loaders", Needs(Look), get(api::loaders)),
        route("GET", "/api/v1/policy", Needs(Look), get(api::policy)),
        route(
            "PUT",
            "/api/v1/policy",
            Needs(SetPolicy),
            put(api::set_policy),
        ),
        route(
            "GET",
            "/api/v1/policy/explain",
            Needs(Look),
            get(api::explain),
        ),
        route("GET", "/api/v1/policy/rules", Needs(Look), get(api::rules)),
        route(
            "PUT",
            "/api/v1/policy/rules",
            Needs(SetPolicy),
            put(api::set_rules),
        ),
        route("GET", "/api/v1/groups", Needs(Look), get(api::groups)),
        route(
            "PUT",
            "/api/v1/groups/{name}",
            Needs(SetPolicy),
            put(api::set_group),
        ),
        route(
            "DELETE",
            "/api/v1/groups/{name}",
            Needs(SetPolicy),
            delete(api::delete_group),
        ),
        route(
            "PUT",
            "/api/v1/machines/{id}/intent",
            Needs(CreateTask),
            put(api::set_intent),
        ),
        route(
            "DELETE",
            "/api/v1/machines/{id}/intent",
            Needs(CreateTask),
            delete(api::drop_intent),
        ),
        route("GET", "/api/v1/users", Needs(ManageUsers), get(api::users)),
        route(
            "POST",
            "/api/v1/users",
            Needs(ManageUsers),
            post(api::add_user),
        ),
        route(
            "PATCH",
            "/api/v1/users/{name}",
            Needs(ManageUsers),
            patch(api::change_user),
        ),
        route(
            "DELETE",
            "/api/v1/users/{name}",
            Needs(ManageUsers),
            delete(api::delete_user),
        ),
        route(
            "GET",
            "/api/v1/tokens",
            Needs(ManageTokens),
            get(api::tokens),
        ),
        route(
            "POST",
            "/api/v1/tokens",
            Needs(ManageTokens),
            post(api::add_token),
        ),
        route(
            "DELETE",
            "/api/v1/tokens/{name}",
            Needs(ManageTokens),
            delete(api::delete_token),
        ),
    ]
}

fn page_routes() -> Vec<Route> {
    use Access::{Needs, Public, SignedIn};
    use Action::{
        ApproveMachine, CancelTask, CreateTask, DeleteImage, DeleteMachine, EditMachine, Look,
        SetPolicy,
    };
    vec![
        route("GET", "/assets/{name}", Public, get(pages::asset)),
        route("GET", "/login", Public, get(pages::login)),
        route("POST", "/login", Public, post(forms::login)),
        route("GET", "/setup", Public, get(pages::setup)),
        route("POST", "/setup", Public, post(forms::set_up)),
        route("POST", "/logout", SignedIn, post(forms::logout)),
        route("GET", "/", Needs(Look), get(pages::dashboard)),
        route("GET", "/machines", Needs(Look), get(pages::machines)),
        route("GET", "/machines/{id}", Needs(Look), get(pages::machine)),
        route(
            "GET",
            "/fragments/machines/{id}",
            Needs(Look),
            get(pages::machine_row),
        ),
        route(
            "GET",
            "/machines/{id}/order",
            Needs(CreateTask),
            get(pages::order),
        ),
        route(
            "POST",
            "/machines/{id}/order",
            Needs(CreateTask),
            post(forms::order),
        ),
        route(
            "POST",
            "/machines/{id}/approve",
            Needs(ApproveMachine),
            post(forms::approve),
        ),
        route(
            "POST",
            "/machines/{id}/disable",
            Needs(ApproveMachine),
            post(forms::disable),
        ),
        route(
            "POST",
            "/machines/{id}/rename",
            Needs(EditMachine),
            post(forms::rename),
        ),
        route(
            "GET",
            "/machines/{id}/delete",
            Needs(DeleteMachine),
            get(pages::delete_machine),
        ),
        route(
            "POST",
            "/machines/{id}/delete",
            Needs(DeleteMachine),
            post(forms::delete_machine),
        ),
        route("GET", "/tasks", Needs(Look), get(pages::tasks)),
        route("GET", "/tasks/{id}", Needs(Look), get(pages::task)),
        route(
            "GET",
            "/fragments/tasks/{id}",
            Needs(Look),
            get(pages::task_card),
        ),
        route(
            "POST",
            "/tasks/{id}/cancel",
            Needs(CancelTask),
            post(forms::cancel),
        ),
        route(
            "GET",
            "/tasks/{id}/retry",
            Needs(CreateTask),
            get(pages::retry),
        ),
        route(
            "POST",
            "/tasks/{id}/retry",
            Needs(CreateTask),
            post(forms::retry),
        ),
        route("GET", "/images", Needs(Look), get(pages::images)),
        route("GET", "/store/prune", Needs(DeleteImage), get(pages::prune)),
        route(
            "POST",
            "/store/prune",
            Needs(DeleteImage),
            post(forms::prune),
        ),
        route("GET", "/images/{name}", Needs(Look), get(pages::image)),
        route(
            "GET",
            "/images/{name}/delete",
            Needs(DeleteImage),
            get(pages::delete_image),
        ),
        route(
            "POST",
            "/images/{name}/delete",
            Needs(DeleteImage),
            post(forms::delete_image),
        ),
        route("GET", "/network", Needs(Look), get(pages::network)),
        route("GET", "/policy", Needs(Look), get(policy_pages::policy)),
        route(
            "GET",
            "/policy/explain",
            Needs(Look),
            get(policy_pages::explain),
        ),
        route(
            "GET",
            "/policy/site",
            Needs(SetPolicy),
            get(policy_pages::site),
        ),
        route(
            "POST",
            "/policy/site",
            Needs(SetPolicy),
            post(policy_pages::set_site),
        ),
        route(
            "GET",
            "/policy/groups",
            Needs(SetPolicy),
            get(policy_pages::group),
        ),
        route(
            "POST",
            "/policy/groups",
            Needs(SetPolicy),
            post(policy_pages::set_group),
        ),
        route(
            "POST",
            "/policy/groups/remove",
            Needs(SetPolicy),
            post(policy_pages::remove_group),
        ),
        route(
            "GET",
            "/policy/rules",
            Needs(SetPolicy),
            get(policy_pages::rule),
        ),
        route(
            "POST",
            "/policy/rules",
            Needs(SetPolicy),
            post(policy_pages::set_rule),
        ),
        route(
            "POST",
            "/policy/rules/move",
            Needs(SetPolicy),
            post(policy_pages::move_rule),
        ),
        route(
            "POST",
            "/policy/rules/remove",
            Needs(SetPolicy),
            post(policy_pages::remove_rule),
        ),
        route(
            "GET",
            "/machines/{id}/settings",
            Needs(EditMachine),
            get(policy_pages::machine),
        ),
        route(
            "POST",
            "/machines/{id}/settings",
            Needs(EditMachine),
            post(policy_pages::set_machine),
        ),
        route(
            "GET",
            "/machines/{id}/wish",
            Needs(CreateTask),
            get(policy_pages::wish),
        ),
        route(
            "POST",
            "/machines/{id}/wish",
            Needs(CreateTask),
            post(policy_pages::set_wish),
        ),
        route(
            "POST",
            "/machines/{id}/wish/drop",
            Needs(CreateTask),
            post(policy_pages::drop_wish),
        ),
    ]
}

fn route(method: &str, path: &'static str, access: Access, handler: MethodRouter<Shared>) -> Route {
    let method = match method {
        "POST" => Method::POST,
        "PUT" => Method::PUT,
        "PATCH" => Method::PATCH,
        "DELETE" => Method::DELETE,
        _ => Method::GET,
    };
    Route {
        method,
        path,
        access,
        handler,
    }
}
