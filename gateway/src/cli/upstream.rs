//! A policy from a file or, without one, from `--upstream` and sane defaults.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::Args;
use tidegate_config::{Admin, Checks, Loaded, Policy, Upstream, load_with};

use super::{Failure, fail};
use crate::{
    clock::Clock,
    deep::{Deep, Trial},
};

/// Where visitors come in when nothing says otherwise.
const LISTEN: &str = "127.0.0.1:8080";
/// Where the admin token lies when the policy does not say.
const TOKEN_FILE: &str = "tidegate-admin.token";

/// What replaces a policy file.
#[derive(Debug, Args)]
pub(super) struct Defaults {
    /// Address of the shop, such as http://127.0.0.1:3000; several are used in turn
    #[arg(long, value_name = "URL")]
    pub(super) upstream: Vec<String>,
    /// Where visitors come in; port 0 takes any free port [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS", requires = "upstream")]
    pub(super) listen: Option<SocketAddr>,
}

impl Defaults {
    /// The policy these make.
    pub(super) fn policy(&self) -> Result<Policy, Failure> {
        let upstreams: Result<Vec<_>, String> = self.upstream.iter().map(|u| Upstream::from_url(u)).collect();
        let upstreams = upstreams.map_err(|e| fail(Failure::Usage, &format!("--upstream: {e}")))?;
        let listen = match self.listen {
            Some(listen) => listen,
            None => LISTEN.parse().map_err(|_| Failure::Usage)?,
        };
        Ok(Policy::zero_config(upstreams, listen))
    }
}

/// An admin listener; its token lies in the working directory when the policy names no file.
pub(super) fn admin(address: SocketAddr, token_file: Option<PathBuf>) -> Admin {
    Admin { address, token_file: Some(token_file.unwrap_or_else(|| TOKEN_FILE.into())) }
}

/// This program tries models in a child process of itself.
pub(super) fn deep() -> Deep {
    Deep { trial: std::env::current_exe().map_or(Trial::None, Trial::Child) }
}

/// Reads a file and checks it as deeply as the gate would.
pub(super) fn load(file: &Path, skip_files: bool) -> Result<Loaded, tidegate_config::PolicyErrors> {
    load_with(file, &Checks { skip_files, to_run: false, ..checks(&deep()) })
}

/// All checks of a policy that is to run, at the present time.
pub(super) fn checks(deep: &Deep) -> Checks<'_> {
    deep.checks(&Clock::new())
}
