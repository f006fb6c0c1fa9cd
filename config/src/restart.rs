//! What a running gate cannot change.

use crate::policy::Policy;

/// Keys that differ between the running policy and a new one and are read only at the start. Empty: all of the new
/// policy can be applied live.
pub fn diff_needs_restart(old: &Policy, new: &Policy) -> Vec<String> {
    let changed = [
        ("listen", old.listen != new.listen),
        ("admin", old.admin != new.admin),
        ("limits_of_a_request.header_bytes", old.limits_of_a_request.header_bytes != new.limits_of_a_request.header_bytes),
        ("connections.keepalive", old.connections.keepalive != new.connections.keepalive),
        ("shop.kept_connections", old.shop.kept_connections != new.shop.kept_connections),
        ("shop.retries_max", old.shop.retries_max != new.shop.retries_max),
        ("journal", old.journal != new.journal),
        ("keys", old.keys != new.keys),
        ("state", old.state != new.state),
        ("log", old.log != new.log),
        ("threads", old.threads != new.threads),
    ];
    changed.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::policy::{keep::Keys, shop::Upstream};

    #[test]
    fn only_what_is_fixed_at_the_start_is_named() {
        let policy =
            || Policy::zero_config(vec![Upstream::plain("127.0.0.1:1".parse().unwrap())], "127.0.0.1:2".parse().unwrap());
        let (old, mut new) = (policy(), policy());
        new.shop.upstreams.push(Upstream::plain("127.0.0.1:3".parse().unwrap()));
        new.filters.clear();
        new.rooms.clear();
        new.connections.max = 5;
        assert_eq!(diff_needs_restart(&old, &new), Vec::<String>::new());
        new.listen[0].address = "127.0.0.1:4".parse().unwrap();
        new.threads = Some(2);
        new.keys = Some(Keys { directory: "k".into() });
        assert_eq!(diff_needs_restart(&old, &new), ["listen", "keys", "threads"]);
    }
}
