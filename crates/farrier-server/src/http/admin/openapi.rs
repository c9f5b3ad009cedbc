//! The description of `/api/v1` for programs, made from one table that a test holds against the routes.

use axum::http::Method;
use farrier_api::{admin, agent, error};
use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use super::routes::{self, Access};

#[derive(OpenApi)]
#[openapi(components(schemas(
    admin::ApiToken,
    admin::AuditEntry,
    admin::AutoDeploy,
    admin::BootComparison,
    admin::BootTls,
    admin::Check,
    admin::ComparedStep,
    admin::Confirm,
    admin::DeployOver,
    admin::Doctor,
    admin::EffectiveSetting,
    admin::Enrolment,
    admin::Event,
    admin::Explained,
    admin::MachineDeployment,
    admin::SelfDeployment,
    admin::ExplainedFirmware,
    admin::ExplainedRule,
    admin::Group,
    admin::GroupDetail,
    admin::ImageDetail,
    admin::ImageSummary,
    admin::ImageVersion,
    admin::ImageVolume,
    admin::Intent,
    admin::Images,
    admin::FirstLoader,
    admin::LocalBoot,
    admin::IssuedCode,
    admin::IpxeVariant,
    admin::LearnedStrategy,
    admin::Lease,
    admin::LeftOut,
    admin::Loader,
    admin::MachineChange,
    admin::MachineCounts,
    admin::MachineDetail,
    admin::MachineSummary,
    admin::Me,
    admin::MediumValue,
    admin::MediumValues,
    admin::MenuEntry,
    admin::MenuMode,
    admin::NewIntent,
    admin::NewMachine,
    admin::NewTasks,
    admin::NewToken,
    admin::NewUser,
    admin::NewestTasks,
    admin::Plan,
    admin::Registration,
    admin::Role,
    admin::Rule,
    admin::Rules,
    admin::Served,
    admin::ServedHttps,
    admin::ServerStatus,
    admin::Stranger,
    admin::SetUp,
    admin::Settings,
    admin::SignIn,
    admin::SignedIn,
    admin::SitePolicy,
    admin::StoreStatus,
    admin::Strategy,
    admin::TaskCounts,
    admin::TaskProgress,
    admin::TaskState,
    admin::TaskSummary,
    admin::TaskWork,
    admin::TasksCreated,
    admin::Then,
    admin::TimelineEntry,
    admin::TokenMade,
    admin::UnknownMachine,
    admin::Until,
    admin::User,
    admin::UserChange,
    admin::Verdict,
    admin::Verified,
    admin::Wake,
    admin::Woken,
    agent::Bottleneck,
    agent::Cpu,
    agent::Disk,
    agent::DiskSelector,
    agent::Inventory,
    agent::Nic,
    agent::System,
    error::ErrorBody,
)))]
struct Schemas;

/// What one route takes and gives.
struct Doc {
    method: &'static str,
    path: &'static str,
    summary: &'static str,
    query: &'static [&'static str],
    takes: Content,
    gives: Content,
}

#[derive(Clone, Copy)]
enum Content {
    Nothing,
    Json(&'static str),
    List(&'static str),
    Page(&'static str),
    Bytes,
    Events,
}

pub(super) async fn document() -> axum::Json<Value> {
    axum::Json(describe())
}

fn describe() -> Value {
    let mut paths = Map::new();
    for doc in DOCS {
        let operations = paths
            .entry(doc.path.to_owned())
            .or_insert_with(|| json!({}));
        operations[doc.method.to_lowercase()] = operation(doc);
    }
    let schemas = serde_json::to_value(Schemas::openapi()).unwrap_or_default();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Farrier",
            "version": "1",
            "description": "Refusals are ErrorBody; its codes are in docs/reference/errors.md.",
            "license": { "name": "Apache-2.0 OR MIT" },
        },
        "paths": paths,
        "components": {
            "schemas": schemas["components"]["schemas"],
            "securitySchemes": { "bearer": { "type": "http", "scheme": "bearer" } },
        },
    })
}

fn operation(doc: &Doc) -> Value {
    let in_path = doc
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let mut parameters: Vec<Value> = in_path
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    parameters.extend(
        doc.query
            .iter()
            .map(|name| json!({ "name": name, "in": "query", "schema": { "type": "string" } })),
    );
    let status = match (doc.gives, doc.path, doc.method) {
        (Nothing, ..) => "204",
        (_, "/api/v1/tasks", "POST") => "201",
        _ => "200",
    };
    let mut good = json!({ "description": "Done." });
    if let Some(content) = content(doc.gives) {
        good["content"] = content;
    }
    let refused = json!({
        "description": "Refused.",
        "content": { "application/json": { "schema": { "$ref": "#/components/schemas/ErrorBody" } } },
    });
    let mut operation = json!({
        "summary": doc.summary,
        "parameters": parameters,
        "responses": { status: good, "default": refused },
    });
    if let Some(content) = content(doc.takes) {
        operation["requestBody"] = json!({ "required": true, "content": content });
    }
    if access(doc) != Some(Access::Public) {
        operation["security"] = json!([{ "bearer": [] }]);
    }
    if let Some(Access::Needs(action)) = access(doc) {
        operation["x-least-role"] = json!(crate::auth::rights::role_name(action.least_role()));
    }
    operation
}

fn content(content: Content) -> Option<Value> {
    let named = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    let schema = match content {
        Nothing => return None,
        Bytes => return Some(json!({ "application/octet-stream": {} })),
        Events => return Some(json!({ "text/event-stream": { "schema": named("Event") } })),
        Json(name) => named(name),
        List(name) => json!({ "type": "array", "items": named(name) }),
        Page(name) => json!({
            "type": "object",
            "required": ["items", "total"],
            "properties": {
                "items": { "type": "array", "items": named(name) },
                "total": { "type": "integer" },
                "next": { "type": ["string", "null"] },
            },
        }),
    };
    Some(json!({ "application/json": { "schema": schema } }))
}

fn access(doc: &Doc) -> Option<Access> {
    let is = |route: &&routes::Route| route.path == doc.path && route.method == method(doc.method);
    routes::all().iter().find(is).map(|route| route.access)
}

fn method(name: &str) -> Method {
    Method::from_bytes(name.as_bytes()).unwrap_or(Method::GET)
}

macro_rules! docs {
    ($($method:ident $path:literal $summary:literal [$($query:literal),*] $takes:expr => $gives:expr;)*) => {
        const DOCS: &[Doc] = &[$(Doc {
            method: stringify!($method),
            path: $path,
            summary: $summary,
            query: &[$($query),*],
            takes: $takes,
            gives: $gives,
        }),*];
    };
}

use Content::{Bytes, Events, Json, List, Nothing, Page};

docs! {
    GET "/api/v1/health" "Whether the server answers." [] Nothing => Bytes;
    POST "/api/v1/sessions" "Signs in." [] Json("SignIn") => Json("SignedIn");
    POST "/api/v1/setup" "Makes the first administrator." [] Json("SetUp") => Json("SignedIn");
    DELETE "/api/v1/sessions/current" "Signs out." [] Nothing => Nothing;
    GET "/api/v1/me" "Who the server takes you for." [] Nothing => Json("Me");
    GET "/api/v1/openapi.json" "This description." [] Nothing => Bytes;
    GET "/api/v1/events" "What changes, as it changes: ids only." [] Nothing => Events;
    GET "/api/v1/status" "How the server is." [] Nothing => Json("ServerStatus");
    GET "/api/v1/doctor" "Checks the server." [] Nothing => Json("Doctor");
    GET "/api/v1/doctor/lines/{server}" "What a DHCP server beside us needs: dnsmasq, kea, isc or windows." [] Nothing => Bytes;
    GET "/api/v1/audit" "Who changed what." ["after", "limit"] Nothing => Page("AuditEntry");
    GET "/api/v1/timeline" "What happened to any machine." ["after", "limit"] Nothing => Page("TimelineEntry");
    GET "/api/v1/machines" "Machines." ["search", "registration", "after", "limit"] Nothing => Page("MachineSummary");
    POST "/api/v1/machines" "Registers a machine by its addresses." [] Json("NewMachine") => Json("MachineDetail");
    GET "/api/v1/machines/{id}" "One machine, by id, name or address." [] Nothing => Json("MachineDetail");
    PATCH "/api/v1/machines/{id}" "Names a machine, or sets its settings; what starts a deployment is refused with a plan until that is confirmed." ["confirm"] Json("MachineChange") => Json("MachineDetail");
    POST "/api/v1/machines/{id}/approve" "Lets a machine in." [] Nothing => Json("MachineDetail");
    POST "/api/v1/machines/{id}/wake" "Sends a machine magic packets." [] Json("Wake") => Json("Woken");
    POST "/api/v1/machines/{id}/code" "Gives a code for a machine's menu, good once." [] Nothing => Json("IssuedCode");
    POST "/api/v1/machines/{id}/disable" "Keeps a machine out." [] Nothing => Json("MachineDetail");
    GET "/api/v1/machines/{id}/timeline" "What happened to a machine." ["after", "limit"] Nothing => Page("TimelineEntry");
    GET "/api/v1/machines/{id}/capture" "A machine's last packets, as a capture file." [] Nothing => Bytes;
    GET "/api/v1/machines/{id}/compare" "The last boot beside the last good one." [] Nothing => Json("BootComparison");
    GET "/api/v1/machines/{id}/delete" "What forgetting a machine would do." [] Nothing => Json("Plan");
    POST "/api/v1/machines/{id}/delete" "Forgets a machine." [] Json("Confirm") => Nothing;
    GET "/api/v1/tasks" "Tasks, the newest first." ["machine", "group", "state", "after", "limit"] Nothing => Page("TaskSummary");
    POST "/api/v1/tasks" "Orders work for machines, or for a group." [] Json("NewTasks") => Json("TasksCreated");
    POST "/api/v1/tasks/plan" "What ordering work would do." [] Json("NewTasks") => Json("Plan");
    GET "/api/v1/tasks/{id}" "One task." [] Nothing => Json("TaskSummary");
    POST "/api/v1/tasks/{id}/cancel" "Cancels a task." [] Nothing => Json("TaskSummary");
    POST "/api/v1/tasks/{id}/requeue" "Puts a running or lost task back to the queue." [] Nothing => Json("TaskSummary");
    GET "/api/v1/tasks/{id}/retry" "What repeating an ended task would do." [] Nothing => Json("Plan");
    POST "/api/v1/tasks/{id}/retry" "Repeats an ended task." [] Json("Confirm") => Json("TasksCreated");
    GET "/api/v1/images" "Images, and what the store takes." [] Nothing => Json("Images");
    GET "/api/v1/images/{name}" "One image with its versions." [] Nothing => Json("ImageSummary");
    GET "/api/v1/images/{name}/{version}" "One version in full." [] Nothing => Json("ImageDetail");
    POST "/api/v1/images/{name}/{version}/verify" "Reads every chunk of a version back." [] Nothing => Json("Verified");
    GET "/api/v1/images/{name}/{version}/delete" "What deleting a version would do." [] Nothing => Json("Plan");
    POST "/api/v1/images/{name}/{version}/delete" "Deletes a version." [] Json("Confirm") => Nothing;
    GET "/api/v1/store/prune" "What pruning would remove." [] Nothing => Json("Plan");
    POST "/api/v1/store/prune" "Removes chunks that no image needs." [] Json("Confirm") => Nothing;
    POST "/api/v1/store/missing" "For each id of 32 bytes, a byte: 1 when the store lacks it." [] Bytes => Bytes;
    POST "/api/v1/store/chunks" "Stores chunks, as frames." [] Bytes => Nothing;
    POST "/api/v1/store/commit" "Publishes a version; gives its signed manifest." [] Bytes => Bytes;
    POST "/api/v1/store/fetch" "Chunks by id, as frames." [] Bytes => Bytes;
    GET "/api/v1/store/manifests/{image}/{version}" "The signed manifest of a version." [] Nothing => Bytes;
    GET "/api/v1/leases" "Addresses lent." ["subnet", "state", "mac"] Nothing => List("Lease");
    GET "/api/v1/leases/{ip}/release" "What giving an address back would do." [] Nothing => Json("Plan");
    POST "/api/v1/leases/{ip}/release" "Gives an address back." [] Json("Confirm") => Nothing;
    GET "/api/v1/loaders" "Boot programs." [] Nothing => List("Loader");
    GET "/api/v1/policy" "The site's settings." [] Nothing => Json("SitePolicy");
    PUT "/api/v1/policy" "Sets the site's settings; what starts deployments is refused with a plan until that is confirmed." ["confirm"] Json("Settings") => Json("SitePolicy");
    GET "/api/v1/media/{name}/values" "What a machine's own copy of a disk image would hold." ["mac", "address"] Nothing => Json("MediumValues");
    GET "/api/v1/policy/explain" "What a machine would get now, and why." ["mac", "firmware", "address"] Nothing => Json("Explained");
    GET "/api/v1/policy/deployments" "What the policy deploys by itself at the next boots, and what it holds back." [] Nothing => List("MachineDeployment");
    GET "/api/v1/policy/rules" "The site's rules, in their order." [] Nothing => List("Rule");
    PUT "/api/v1/policy/rules" "Sets all rules; refused with the place of each fault, and with a plan where they start deployments until that is confirmed." ["confirm"] Json("Rules") => List("Rule");
    GET "/api/v1/groups" "Groups of machines." [] Nothing => List("Group");
    GET "/api/v1/groups/{name}" "A group with its machines and how far they are." [] Nothing => Json("GroupDetail");
    PUT "/api/v1/groups/{name}" "Makes a group, or sets what it sets; what starts deployments is refused with a plan until that is confirmed." ["confirm"] Json("Settings") => Json("Group");
    DELETE "/api/v1/groups/{name}" "Removes a group without machines." [] Nothing => Nothing;
    PUT "/api/v1/machines/{id}/intent" "Says what a machine does at its next boots." [] Json("NewIntent") => Json("MachineDetail");
    DELETE "/api/v1/machines/{id}/intent" "Takes that back." [] Nothing => Json("MachineDetail");
    GET "/api/v1/users" "People." [] Nothing => List("User");
    POST "/api/v1/users" "Adds a person." [] Json("NewUser") => Json("User");
    PATCH "/api/v1/users/{name}" "Changes a person." [] Json("UserChange") => Json("User");
    DELETE "/api/v1/users/{name}" "Removes a person." [] Nothing => Nothing;
    GET "/api/v1/tokens" "Tokens of programs." [] Nothing => List("ApiToken");
    POST "/api/v1/tokens" "Makes a token; shown this once." [] Json("NewToken") => Json("TokenMade");
    DELETE "/api/v1/tokens/{name}" "Revokes a token." [] Nothing => Nothing;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{DOCS, describe};
    use crate::http::admin::routes;

    #[test]
    fn every_route_of_the_api_is_described_and_no_other() {
        let all = routes::all();
        let api = all.iter().filter(|r| r.path.starts_with("/api/"));
        let served: BTreeSet<_> = api.map(|r| (r.method.to_string(), r.path)).collect();
        let described: BTreeSet<_> = DOCS.iter().map(|d| (d.method.to_owned(), d.path)).collect();
        assert_eq!(served, described);
    }

    #[test]
    fn every_schema_that_is_named_exists() {
        let document = describe();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let text = document.to_string();
        for named in text.split("#/components/schemas/").skip(1) {
            let name = named.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name}");
        }
        assert!(schemas.len() > 50);
    }
}
