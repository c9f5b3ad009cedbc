//! What most tests begin with: a LAN, our server on it, and a folder for what they leave behind.

use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;

use crate::{Lab, Lan, Site};

/// A LAN with our server on it.
#[derive(Debug)]
pub struct Scene {
    /// Where the files of the lab are.
    pub lab: Lab,
    /// Of this scene alone, empty at its start.
    pub folder: PathBuf,
    /// The LAN.
    pub lan: Lan,
    /// Our server.
    pub site: Site,
}

impl Scene {
    /// Starts the server with interfaces and subnets as the configuration file names them.
    ///
    /// # Errors
    /// When a part is missing or the server does not start.
    pub fn serving(name: &str, config: &str) -> Result<Self> {
        let lab = Lab::open()?;
        let folder = lab.scratch(name)?;
        let lan = Lan::new()?;
        let site = Site::serving(&lab, lan.server()?, &folder, config)?;
        Ok(Self {
            lab,
            folder,
            lan,
            site,
        })
    }

    /// How often something happened on the boot plane, by its counter.
    ///
    /// # Errors
    /// When the server does not say.
    pub fn count(&self, reason: &str) -> Result<u64> {
        let status = self.site.get("status")?;
        Ok(status["boot"][reason].as_u64().unwrap_or(0))
    }

    /// Puts a machine with this hardware address on record.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn know(&self, mac: &str) -> Result<()> {
        let machine = json!({ "macs": [mac] });
        self.site.post("machines", &machine).map(drop)
    }
}
