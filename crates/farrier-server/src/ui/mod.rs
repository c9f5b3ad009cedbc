//! What the page shows: views made from the service's answers, and the templates that render them.
//!
//! Every text of a view that may come from a client went through [`text::shown`]; the templates escape all
//! of them for HTML. Nothing here decides or looks anything up.

pub mod assets;
pub mod setting_fields;
pub mod text;
mod view;

pub use view::*;

use crate::auth::rights::role_name;
use crate::auth::{Principal, Via};

/// What every page needs besides its content.
#[derive(Clone, Debug)]
pub struct Frame {
    pub title: String,
    /// Which entry of the navigation is the current one.
    pub place: &'static str,
    pub who: Option<Who>,
    pub style: &'static str,
    pub script: &'static str,
    pub icon: &'static str,
}

/// Who looks at the page, and what they may do there.
#[derive(Clone, Debug)]
pub struct Who {
    pub name: String,
    pub role: &'static str,
    pub csrf: String,
    pub may_operate: bool,
    pub may_administer: bool,
}

impl Frame {
    #[must_use]
    pub fn new(title: &str, place: &'static str, who: Option<&Principal>) -> Self {
        let assets = &*assets::ASSETS;
        Self {
            title: text::shown(title),
            place,
            who: who.map(Who::of),
            style: &assets.style.path,
            script: &assets.script.path,
            icon: &assets.icon.path,
        }
    }

    #[must_use]
    pub fn csrf(&self) -> &str {
        self.who.as_ref().map_or("", |who| &who.csrf)
    }

    #[must_use]
    pub fn may_operate(&self) -> bool {
        self.who.as_ref().is_some_and(|who| who.may_operate)
    }

    #[must_use]
    pub fn may_administer(&self) -> bool {
        self.who.as_ref().is_some_and(|who| who.may_administer)
    }
}

impl Who {
    fn of(who: &Principal) -> Self {
        use farrier_engine::model::Role;
        let csrf = match &who.via {
            Via::Session { csrf, .. } => csrf.0.clone(),
            Via::Local | Via::Token => String::new(),
        };
        Self {
            name: text::shown(&who.name),
            role: role_name(who.role),
            csrf,
            may_operate: who.role >= Role::Operator,
            may_administer: who.role >= Role::Admin,
        }
    }
}
