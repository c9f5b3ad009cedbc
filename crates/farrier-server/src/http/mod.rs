//! Listeners. Each plane has a router of its own, served by [`serve`]; nothing here knows routes.

pub mod admin;
pub mod agent;
pub mod boot;
pub mod failure;
mod hello;
mod patience;
pub mod serve;
pub mod session;
