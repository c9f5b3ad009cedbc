//! The Farrier server.
//!
//! Reading order: [`boot`] is the heart: a packet arrives, becomes facts, a decision, a reply.
//! [`boot6`] is the same over IPv6. [`transfer`] (TFTP) and `http::boot` have the same shape. [`core`] is what all of them share: the
//! [`fleet`] (machines and tasks), leases, images, keys, timeline. [`mod@run`] starts and stops everything;
//! [`config`] is what it starts with.
//!
//! Three planes, three listeners, three routers that cannot reach one another's routes: boot (plain HTTP,
//! for firmware), agent (mutual TLS) and admin (TLS, for people and programs).
#![forbid(unsafe_code)]

pub mod admission;
pub mod agent_image;
pub mod announce6;
pub mod auth;
pub mod bind;
pub mod bind6;
mod bind_tls;
pub mod boards;
pub mod boot;
pub mod boot6;
pub mod boot_tree;
pub mod bucket;
pub mod ca;
pub mod choices;
pub mod classes;
pub mod config;
pub mod core;
pub mod counters;
pub mod deb;
pub mod disk_starts;
pub mod exchanges;
pub mod fleet;
mod hex;
pub mod http;
pub mod leases;
pub mod loaders;
pub mod media;
pub mod menu_codes;
pub mod named_scripts;
mod neighbours;
mod no_router;
pub mod notes;
pub mod outside;
pub mod packet_log;
mod plane_thread;
pub mod probe;
pub mod rarp;
pub mod relays;
pub mod reservations;
pub mod rounds;
pub mod rules;
pub mod run;
pub mod script;
pub mod service;
pub mod sightings;
pub mod silences;
pub mod standing_orders;
pub mod strategies;
pub mod tasks;
pub mod timeline;
pub mod transfer;
pub mod vacancy;
pub mod whereabouts;

pub use run::run;
pub mod ui;
