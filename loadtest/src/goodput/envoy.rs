//! Envoy with its adaptive concurrency filter: a gradient on the time of answers, and 503 for what does not fit.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use crate::bench::{
    process::{Server, free_address},
    rivals::{self, THREADS},
};

/// A program given, or one on the PATH.
pub fn find(given: Option<PathBuf>) -> Option<PathBuf> {
    given.filter(|p| p.is_file()).or_else(|| rivals::find("envoy"))
}

/// Starts it.
pub(super) fn start(program: &Path, shop: SocketAddr, dir: &Path) -> anyhow::Result<Server> {
    let address = free_address()?;
    let file = dir.join("envoy.yaml");
    fs::write(&file, config(address, shop))?;
    let mut command = Command::new(program);
    command.arg("-c").arg(&file).args(["--concurrency", &THREADS.to_string(), "--disable-hot-restart", "--log-level", "warning"]);
    Server::start(command, address, &dir.join("envoy.log"))
}

/// The gradient controller as its documentation has it, with the unloaded time looked for more often than once a minute, since
/// a cell is shorter; files are not counted.
fn config(address: SocketAddr, shop: SocketAddr) -> String {
    let socket = |a: SocketAddr| format!("{{ socket_address: {{ address: {}, port_value: {} }} }}", a.ip(), a.port());
    let thresholds = "{ max_connections: 100000, max_pending_requests: 100000, max_requests: 100000, max_retries: 3 }";
    format!(
        "static_resources:
  listeners:
  - address: {listen}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          use_remote_address: true
          route_config:
            virtual_hosts:
            - name: shop
              domains: ['*']
              routes:
              - match: {{ prefix: /static/ }}
                route: {{ cluster: shop }}
                typed_per_filter_config:
                  envoy.filters.http.adaptive_concurrency:
                    '@type': type.googleapis.com/envoy.config.route.v3.FilterConfig
                    disabled: true
              - match: {{ prefix: / }}
                route: {{ cluster: shop }}
          http_filters:
          - name: envoy.filters.http.adaptive_concurrency
            typed_config:
              '@type': type.googleapis.com/envoy.extensions.filters.http.adaptive_concurrency.v3.AdaptiveConcurrency
              gradient_controller_config:
                sample_aggregate_percentile: {{ value: 90 }}
                concurrency_limit_params: {{ concurrency_update_interval: 0.1s }}
                min_rtt_calc_params: {{ jitter: {{ value: 10 }}, interval: 30s, request_count: 50 }}
              enabled: {{ default_value: true, runtime_key: adaptive_concurrency.enabled }}
          - name: envoy.filters.http.router
            typed_config: {{ '@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
  clusters:
  - name: shop
    type: STATIC
    connect_timeout: 1s
    circuit_breakers: {{ thresholds: [ {thresholds} ] }}
    load_assignment:
      cluster_name: shop
      endpoints: [ {{ lb_endpoints: [ {{ endpoint: {{ address: {to} }} }} ] }} ]
",
        listen = socket(address),
        to = socket(shop),
    )
}
