//! Listeners. Each plane has a router of its own, served by [`serve`]; nothing here knows routes.

pub mod serve;
