//! What people ask for with a browser.

use axum::routing::{get, post};

use super::{Access, Route, route};
use crate::auth::Action;
use crate::http::admin::{forms, order_pages, pages, policy_pages};

pub(super) fn routes() -> Vec<Route> {
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
            get(order_pages::order),
        ),
        route(
            "POST",
            "/machines/{id}/order",
            Needs(CreateTask),
            post(order_pages::set_order),
        ),
        route(
            "GET",
            "/orders",
            Needs(CreateTask),
            get(order_pages::orders),
        ),
        route(
            "POST",
            "/orders",
            Needs(CreateTask),
            post(order_pages::set_orders),
        ),
        route(
            "GET",
            "/groups/{name}",
            Needs(Look),
            get(order_pages::group),
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
