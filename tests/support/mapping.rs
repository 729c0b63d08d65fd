//! What stands behind the engine of a test that is asked over its control socket: a mapping that changes as a running one's
//! does, and ports that are attached and detached in words only. For the server's own tests and for those of its client.

use std::sync::{Arc, Mutex};

use serde_json::{Map, Value};
use sixway::control::changes::{Asked, History, carry_out};
use sixway::control::config::read_live_port;
use sixway::control::server::{Attaching, Changing, PortReport, Problem};
use sixway::naming::{Names, NamesWriter, Network, Networks};
use sixway::table;
use sixway::units::PortRange;

/// The networks blue and red, on the server 192.168.50.1.
pub struct Mapping {
    pub names: Arc<Names>,
    writer: Mutex<NamesWriter>,
    pub history: History,
}

impl Mapping {
    pub fn new() -> Mapping {
        let network = |name: &str| Network { name: name.to_owned(), ..Network::default() };
        let networks = Networks::new(vec![network("blue"), network("red")], &[]).unwrap();
        let owned = PortRange { first: 20480, last: 59903 };
        let (names, writer) = Names::new(Arc::new(networks), &["192.168.50.1".parse().unwrap()], owned);
        let history = History::new(names.view(&table::pin()).generation());
        Mapping { names, writer: Mutex::new(writer), history }
    }

    pub fn change(&self, asked: &Asked) -> Changing {
        let mut writer = self.writer.lock().unwrap();
        let done = carry_out(&mut writer, &asked.wish(), &self.history, |prepared| Ok(prepared.commit()));
        Box::pin(std::future::ready(done))
    }
}

/// Takes every port but one more `uplink`.
pub fn attach(form: Map<String, Value>) -> Attaching {
    Box::pin(async move {
        let port = read_live_port(&form).map_err(|mistakes| Problem::of_port(mistakes, true))?;
        if port.name == "uplink" {
            return Err(Problem::of_port(vec!["there is a port `uplink` already".into()], false));
        }
        Ok(PortReport { name: port.name, live: true, ..PortReport::default() })
    })
}

/// Of the configuration there is `uplink`, and one `live` port besides.
pub fn detach(name: &str, live: &str) -> Result<(), Problem> {
    match name {
        "uplink" => Err(Problem::conflict("it is of the configuration")),
        name if name == live => Ok(()),
        _ => Err(Problem::not_found(format!("there is no port `{name}`"))),
    }
}
