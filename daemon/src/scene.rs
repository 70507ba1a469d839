//! What sandboxes see, kept as the host has it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use noxrunner_init::message::{Layers, Places, Preparation};
use noxrunner_init::template::{Template, Unstubbed};
use noxrunner_protocol::types::Isolation;

use crate::engine::errno_text;
use crate::policy::Means;
use crate::rootfs::{Inputs, Rootfs, RootfsError};

/// The root file system of sandboxes as it was last planned, and what it was planned from.
#[derive(Debug)]
pub struct Scene {
    inputs: Inputs,
    rootfs: RwLock<Arc<Rootfs>>,
}

impl Scene {
    /// Looks at the host. Touches the disk: not for the async threads.
    ///
    /// # Errors
    /// As [`Rootfs::plan`].
    pub fn new(inputs: Inputs) -> Result<Self, RootfsError> {
        let rootfs = RwLock::new(Arc::new(Rootfs::plan(&inputs)?));
        Ok(Self { inputs, rootfs })
    }

    /// What inits made from now on see.
    pub fn rootfs(&self) -> Arc<Rootfs> {
        Arc::clone(&self.rootfs.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the host has changed since. Some dozens of calls of stat(2).
    pub fn is_stale(&self) -> bool {
        self.rootfs().is_stale()
    }

    /// Looks again where the host has changed; gives what is to be built then. Touches the disk.
    ///
    /// # Errors
    /// As [`Rootfs::plan`]; what there was stays in force.
    pub fn refresh(&self) -> Result<Option<Arc<Rootfs>>, RootfsError> {
        if !self.is_stale() {
            return Ok(None);
        }
        let fresh = Arc::new(Rootfs::plan(&self.inputs)?);
        *self.rootfs.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&fresh);
        Ok(Some(fresh))
    }

    /// Where on the host a path lies that sandboxes see.
    pub fn host_path(&self, inside: &Path) -> Option<PathBuf> {
        self.rootfs().host_path(inside)
    }
}

/// What there is to enforce a policy with.
pub fn means(isolation: &Isolation, scene: Option<&Scene>, unstubbed: &[Unstubbed]) -> Means {
    let said = |unstubbed: &Unstubbed| {
        let directory = OsStr::from_bytes(unstubbed.directory.to_bytes());
        (directory.into(), errno_text(unstubbed.errno).to_owned())
    };
    Means {
        tier: isolation.tier,
        landlock: isolation.features.iter().any(|feature| feature.starts_with("landlock")),
        unstubbed: unstubbed.iter().map(said).collect(),
        kept: scene.map(|scene| scene.rootfs().kept().to_vec()).unwrap_or_default(),
    }
}

/// What a zygote needs to know for inits that see this.
pub fn preparation(
    layers: Layers,
    rootfs: &Rootfs,
    host_id: Option<u32>,
    places: Places,
    no_memfd: bool,
) -> Preparation {
    let (template, readable) = match layers {
        Layers::Full => (rootfs.template().clone(), Vec::new()),
        Layers::Landlock => (Template::default(), rootfs.readable()),
        Layers::None => Default::default(),
    };
    Preparation { layers, template, readable, host_id, places, no_memfd }
}
