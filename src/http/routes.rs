//! How the route table is built: each entry names who may take it, and can't be written without.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, ResponseBuilder};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter, UtoipaMethodRouterExt as _};

use super::{Code, Parts, Problem, Role, idempotency};

/// Who may take a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Anybody (what needs no token, or is checked by its handler: the live socket's token, a signature).
    Public,
    /// Callers with one of these roles.
    Roles(&'static [Role]),
}

/// One method of one path, for the tests that walk the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) access: Access,
}

/// The table while it is built.
pub(super) struct Routes {
    parts: Parts,
    router: OpenApiRouter<Parts>,
    rules: Vec<Rule>,
}

impl Routes {
    pub(super) fn new(parts: Parts, about: OpenApi) -> Self {
        Self { parts, router: OpenApiRouter::with_openapi(about), rules: Vec::new() }
    }

    /// Routes that anybody may take.
    pub(super) fn public(self, routes: UtoipaMethodRouter<Parts>) -> Self {
        self.add(Access::Public, routes)
    }

    /// Routes for callers with one of `roles`. POST requests among them may carry an `Idempotency-Key`.
    pub(super) fn allow(self, roles: &'static [Role], routes: UtoipaMethodRouter<Parts>) -> Self {
        let guard = Guard { parts: self.parts.clone(), roles };
        let routes = routes
            .layer(from_fn_with_state(self.parts.clone(), idempotency::once_per_key))
            .layer(from_fn_with_state(Arc::new(guard), check_role));
        self.add(Access::Roles(roles), routes)
    }

    fn add(mut self, access: Access, mut routes: UtoipaMethodRouter<Parts>) -> Self {
        for (path, item) in &mut routes.1.paths {
            for (method, operation) in operations(item) {
                self.rules.push(Rule { method, path: path.clone(), access });
                describe(operation, access);
            }
        }
        Self { router: self.router.routes(routes), ..self }
    }

    pub(super) fn finish(self) -> (axum::Router<Parts>, OpenApi, Vec<Rule>) {
        let (router, api) = self.router.split_for_parts();
        (router, api, self.rules)
    }
}

struct Guard {
    parts: Parts,
    roles: &'static [Role],
}

/// The one place where roles decide.
async fn check_role(
    State(guard): State<Arc<Guard>>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let caller = guard.parts.auth.caller(request.headers()).await?;
    if !caller.is_any(guard.roles) {
        let needed: Vec<_> = guard.roles.iter().map(|role| role.as_str()).collect();
        let detail = format!("this needs one of the roles {}", needed.join(", "));
        return Err(Problem::new(Code::RoleNotAllowed, detail));
    }
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

/// The methods that a path item has.
pub(super) fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    [
        ("GET", item.get.as_mut()),
        ("PUT", item.put.as_mut()),
        ("POST", item.post.as_mut()),
        ("PATCH", item.patch.as_mut()),
        ("DELETE", item.delete.as_mut()),
    ]
    .into_iter()
    .filter_map(|(method, operation)| operation.map(|operation| (method, operation)))
}

/// Adds to the description what holds for every route: the roles, and how errors look.
fn describe(operation: &mut Operation, access: Access) {
    if let Access::Roles(roles) = access {
        let names: Vec<_> = roles.iter().map(|role| role.as_str()).collect();
        operation.extensions = Some(ExtensionsBuilder::new().add("x-roles", names).build());
        operation.security = Some(vec![SecurityRequirement::new("bearer", Vec::<String>::new())]);
    }
    let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let response = ResponseBuilder::new()
        .description("Any error; the codes are listed at /docs/errors")
        .content("application/problem+json", problem)
        .build();
    operation.responses.responses.insert("default".to_owned(), response.into());
}
