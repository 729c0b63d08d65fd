//! What of another configuration can take effect while the engine runs: the policy, which is all that `[[network]]` and
//! `[[policy]]` say but the networks' names.

use crate::control::config::{Config, Mistake, Server};
use crate::naming::{Networks, PairRule};

/// The policy of `config`, for the networks that `running` has: ids follow the order in which the engine began.
///
/// # Errors
/// Networks that only one of the two has.
pub(super) fn of(config: &Config, running: &Config) -> Result<Networks, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let mut only_in = |one: &Config, other: &Config, what: &str| {
        for network in one.networks.iter().filter(|network| other.network(&network.name).is_none()) {
            let message = format!("network `{}` {what}: networks come and go with a start of the engine", network.name);
            mistakes.push(Mistake::in_file(&config.file, message));
        }
    };
    only_in(config, running, "is new");
    only_in(running, config, "is gone");
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let networks = running.networks.iter().filter_map(|network| config.network(&network.name).cloned()).collect();
    let rules: &[PairRule] = &config.rules;
    Networks::new(networks, rules).map_err(|error| vec![Mistake::in_file(&config.file, error.to_string())])
}

/// What else is different in `config`, as it stands in the file: it takes effect at the next start.
pub(super) fn needs_a_start(config: &Config, running: &Config) -> Vec<&'static str> {
    // All of it, so that nothing that is added goes without a word.
    let Server { ips, ports, mapping, mapping_at: _, router, gateways, quarantine_s } = &config.server;
    let old = &running.server;
    let differences = [
        ("`ip` of [server]", *ips != old.ips),
        ("`ports` of [server]", *ports != old.ports),
        ("`mapping` of [server]", *mapping != old.mapping),
        ("`router` of [server]", *router != old.router),
        ("`return` of [server]", *gateways != old.gateways),
        ("`quarantine_s` of [server]", *quarantine_s != old.quarantine_s),
        ("[timers]", config.timers != running.timers),
        ("[engine]", config.engine != running.engine),
        ("[control]", config.control != running.control),
        ("[[port]]", config.ports != running.ports),
        ("[[neighbour]]", config.neighbours != running.neighbours),
        ("[[health]]", config.health != running.health),
    ];
    differences.into_iter().filter_map(|(what, differs)| differs.then_some(what)).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const CONFIG: &str = r#"
[server]
ip = "192.168.50.1"
ports = "20480-59903"
mapping = "mapping.sixway"
[[network]]
name = "blue"
[[network]]
name = "green"
peers = ["blue"]
"#;

    fn config(text: &str) -> Config {
        Config::parse(Path::new("sixway.toml"), text).unwrap_or_else(|mistakes| panic!("{mistakes:?}"))
    }

    #[test]
    fn networks_keep_their_ids_wherever_they_stand_in_the_file() {
        let running = config(CONFIG);
        let (blue, green) = ("[[network]]\nname = \"blue\"\n", "[[network]]\nname = \"green\"\npeers = [\"blue\"]\n");
        let other =
            CONFIG.replace(blue, "").replace(green, &format!("{}{blue}", green.replace("peers = [\"blue\"]", "")));
        let networks = of(&config(&other), &running).unwrap();
        let (blue, green) = (networks.id("blue").unwrap(), networks.id("green").unwrap());
        assert_eq!((blue.0, green.0), (0, 1));
        assert!(!networks.reachable(green, blue));
        assert!(running.build_networks().unwrap().reachable(green, blue));
    }

    #[test]
    fn networks_neither_come_nor_go() {
        let mistakes = of(&config(&CONFIG.replace("green", "red")), &config(CONFIG)).unwrap_err();
        let words: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        assert!(words[0].contains("`red` is new") && words[1].contains("`green` is gone"), "{words:?}");
    }

    #[test]
    fn what_waits_for_a_start_is_named() {
        let other = CONFIG.replace("20480-59903", "20480-50000") + "[engine]\ncores = [1]\n[timers]\nudp_s = 120\n";
        assert_eq!(needs_a_start(&config(&other), &config(CONFIG)), ["`ports` of [server]", "[timers]", "[engine]"]);
        let by_gateway = "mapping = \"mapping.sixway\"\nreturn = \"gateway\"\ngateways = [\"192.168.50.6\"]";
        let by_gateway = CONFIG.replace("mapping = \"mapping.sixway\"", by_gateway);
        assert_eq!(needs_a_start(&config(&by_gateway), &config(CONFIG)), ["`return` of [server]"]);
        let policy = CONFIG.replace("peers = [\"blue\"]", "midstream = \"reset\"");
        assert!(needs_a_start(&config(&policy), &config(CONFIG)).is_empty());
    }
}
