//! Farrier on a private LAN: real firmware, foreign clients and servers.
//!
//! One program, so that a test which waits for a machine leaves the processors to the others, whatever they test.

mod boot;
mod boot6;
mod clients;
mod dhcp;
mod dhcp6;
mod doctor;
mod firmware;
mod https;
mod imaging;
mod lab;
mod loaders;
mod local_disk;
mod media;
mod multicast;
mod networks;
mod next_boot;
mod one_boot;
mod page;
mod proxy;
mod rarp;
mod screen;
mod storm;
mod tftp;
mod wake;
mod wire;
