//! What the gate is measured beside: Pingora alone, nginx and HAProxy, each with two workers, kept connections, no log.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

use super::process::{Server, free_address};

/// Workers of every server.
pub const THREADS: usize = 2;
/// The path that a rival answers by itself.
pub const LOCAL_PATH: &str = "/local";
/// Body of that answer, the same everywhere.
const LOCAL_BODY: &str = r#"{"position":1}"#;

/// Seconds a request waits in HAProxy's queue, where it has one.
const QUEUE_S: u32 = 3;

/// Where Debian and most others put servers; not always on the PATH of people.
const MORE_PLACES: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/sbin"];

/// A program by name.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(MORE_PLACES.iter().map(PathBuf::from));
    places.map(|dir| dir.join(program)).find(|p| p.is_file())
}

/// First line of what a program says about its version.
pub fn version(program: &Path) -> String {
    let said = Command::new(program).arg("-v").output();
    let said = said.map(|o| [o.stdout, o.stderr].concat()).unwrap_or_default();
    let said = String::from_utf8_lossy(&said).lines().next().unwrap_or_default().replace("nginx version: ", "");
    said.split(" - ").next().unwrap_or_default().trim().to_owned()
}

/// Pingora alone; prints its address itself.
pub fn bare(program: &Path, upstream: SocketAddr) -> anyhow::Result<Server> {
    let mut command = Command::new(program);
    command.args([upstream.to_string(), THREADS.to_string()]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().with_context(|| format!("starting {}", program.display()))?;
    let mut line = String::new();
    if let Some(out) = child.stdout.take() {
        BufReader::new(out).read_line(&mut line)?;
    }
    let address: SocketAddr = line.trim().parse().with_context(|| format!("{} did not print an address", program.display()))?;
    if !address.ip().is_loopback() {
        bail!("{} listens on {address}, which is not loopback", program.display());
    }
    Ok(Server::adopt(child, address))
}

/// nginx as a proxy with kept connections on both sides; `rate`: no more requests a second than this, one second's worth of
/// them may wait, files excepted.
pub fn nginx(program: &Path, upstream: SocketAddr, dir: &Path, rate: Option<u32>) -> anyhow::Result<Server> {
    let address = free_address()?;
    let dir_text = dir.display();
    let (zone, limit) = rate.map_or_else(Default::default, |r| {
        (format!("  limit_req_zone $server_port zone=shop:1m rate={r}r/s;\n"), format!("limit_req zone=shop burst={r};"))
    });
    let config = format!(
        "daemon off;\nworker_processes {THREADS};\npid {dir_text}/nginx.pid;\nerror_log {dir_text}/nginx.error.log;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n  access_log off;\n  keepalive_requests 1000000000;\n  default_type application/json;\n\
         \x20 client_body_temp_path {dir_text}/body;\n  proxy_temp_path {dir_text}/proxy;\n  fastcgi_temp_path {dir_text}/f;\n\
         \x20 uwsgi_temp_path {dir_text}/u;\n  scgi_temp_path {dir_text}/s;\n\
{zone}\
         \x20 upstream shop {{ server {upstream}; keepalive 64; keepalive_requests 1000000000; }}\n\
         \x20 server {{\n    listen {address};\n    location = {LOCAL_PATH} {{ return 200 '{LOCAL_BODY}\\n'; }}\n\
         \x20   proxy_http_version 1.1;\n    proxy_set_header Connection '';\n\
         \x20   proxy_set_header Host $host;\n    proxy_set_header X-Forwarded-For $remote_addr;\n\
         \x20   proxy_set_header X-Real-IP $remote_addr;\n    proxy_set_header X-Forwarded-Proto http;\n\
         \x20   proxy_set_header X-Forwarded-Host $host;\n\
         \x20   location /static/ {{ proxy_pass http://shop; }}\n    location / {{ {limit} proxy_pass http://shop; }}\n  }}\n}}\n"
    );
    let file = dir.join("nginx.conf");
    fs::write(&file, config)?;
    let mut command = Command::new(program);
    command.arg("-c").arg(&file).arg("-p").arg(dir).arg("-e").arg(dir.join("nginx.error.log"));
    Server::start(command, address, &dir.join("nginx.log"))
}

/// HAProxy as a proxy with kept connections on both sides; `maxconn`: no more requests at the shop than this, the others wait in
/// line for up to `QUEUE_S` seconds, files excepted.
pub fn haproxy(program: &Path, upstream: SocketAddr, dir: &Path, maxconn: Option<u32>) -> anyhow::Result<Server> {
    let address = free_address()?;
    let limit = maxconn.map_or_else(String::new, |n| format!(" maxconn {n}"));
    let config = format!(
        "global\n  nbthread {THREADS}\n  maxconn 4096\n\
         defaults\n  mode http\n  timeout connect 1s\n  timeout client 60s\n  timeout server 10s\n  option http-keep-alive\n\
         frontend in\n  bind {address}\n\
         \x20 http-request return status 200 content-type application/json string '{LOCAL_BODY}\\n' if {{ path {LOCAL_PATH} }}\n\
         \x20 option forwardfor\n  http-request set-header X-Real-IP %[src]\n\
         \x20 http-request set-header X-Forwarded-Proto http\n  http-request set-header X-Forwarded-Host %[req.hdr(Host)]\n\
         \x20 use_backend files if {{ path_beg /static/ }}\n  default_backend shop\n\
         backend files\n  http-reuse always\n  server shop {upstream}\n\
         backend shop\n  http-reuse always\n  timeout queue {QUEUE_S}s\n  server shop {upstream}{limit}\n"
    );
    let file = dir.join("haproxy.cfg");
    fs::write(&file, config)?;
    let mut command = Command::new(program);
    command.arg("-db").arg("-f").arg(&file);
    Server::start(command, address, &dir.join("haproxy.log"))
}
