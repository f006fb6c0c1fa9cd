//! `kill -9` after the shop has made an order and before the gate has written it down: nothing is sold twice, and what
//! nobody knows can be put right.

use std::{
    collections::BTreeMap,
    io::{BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use serde_json::Value;

use crate::{
    kills::{free_port, start},
    stock::{BY_HEADER, policy},
    support::{Answer, Client, admin_at, read_request},
};

const STOCK: u32 = 24;
const BUYERS: usize = 40;
const KILLS: usize = 6;

/// A shop that makes an order of every checkout, says so to the test, and answers a moment later.
struct Orders {
    address: SocketAddr,
    /// Orders by hold.
    made: Arc<Mutex<BTreeMap<u64, u32>>>,
    /// One word for each order, when it is made.
    news: mpsc::Receiver<()>,
}

impl Orders {
    fn start() -> Orders {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, made) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(BTreeMap::new())));
        let (tell, news) = mpsc::channel();
        let book = made.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (book, tell) = (book.clone(), tell.clone());
                std::thread::spawn(move || sell(stream, &book, &tell));
            }
        });
        Orders { address, made, news }
    }

    fn count(&self) -> u32 {
        self.made.lock().unwrap().values().sum()
    }
}

fn sell(mut stream: TcpStream, book: &Mutex<BTreeMap<u64, u32>>, tell: &mpsc::Sender<()>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(request) = read_request(&mut reader) {
        let hold = request.header("tidegate-hold").and_then(|h| h.strip_prefix("drop-1/")?.parse().ok());
        let answer = match hold {
            None => "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            Some(hold) => {
                *book.lock().unwrap().entry(hold).or_insert(0) += 1;
                let _ = tell.send(());
                // Long enough for the gate to die before it hears.
                std::thread::sleep(Duration::from_millis(40));
                "HTTP/1.1 303 See Other\r\nlocation: /thanks\r\ntidegate-sold: 1\r\ncontent-length: 0\r\n\r\n"
            }
        };
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// Over a connection that may break at any moment.
fn ask(client: &mut Client, method: &str, path: &str, body: &str) -> Option<Answer> {
    let mut copy = client.clone();
    let asked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let answer = copy.send(method, path, body);
        (answer, copy)
    }));
    let (answer, copy) = asked.ok().filter(|(a, _)| a.status > 0)?;
    *client = copy;
    Some(answer)
}

/// Comes in, and tries to buy until there is an answer that ends it.
fn buyer(address: SocketAddr, stop: &AtomicBool) {
    let mut me = Client::app(address);
    while !stop.load(Ordering::Relaxed) {
        let answer = ask(&mut me, "POST", "/checkout", "buy");
        let reason = answer.as_ref().and_then(|a| a.header("tidegate-reason")).map(str::to_owned);
        match (answer.map(|a| a.status), reason.as_deref()) {
            (Some(303 | 410), _) | (_, Some("VISITOR_LIMIT")) => return,
            (_, Some("NO_PASS" | "PEOPLE_WAIT")) => {
                ask(&mut me, "GET", "/", "");
                ask(&mut me, "POST", "/.tidegate/claim", "room=drop&to=/");
            }
            _ => {}
        }
        std::thread::sleep(Duration::from_millis(30));
    }
}

fn wait_for(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..600 {
        if so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{what}: not within 30 s");
}

#[test]
fn a_kill_between_the_shops_order_and_our_record_sells_nothing_twice() {
    let (shop, dir) = (Orders::start(), tempfile::tempdir().unwrap());
    let (listen, control) = (free_port(), free_port());
    let text = policy(STOCK, BY_HEADER) + "state: { directory: \"{dir}/state\", budget: 5s }\n";
    let text = text.replacen("127.0.0.1:0", &listen.to_string(), 1).replacen("127.0.0.1:0", &control.to_string(), 1);
    let text = text.replace("{shop}", &shop.address.to_string()).replace("{dir}", &dir.path().display().to_string());
    let file = dir.path().join("policy.yaml");
    std::fs::write(&file, text).unwrap();
    let mut gate = start(&file);
    let stop = Arc::new(AtomicBool::new(false));
    let crowd: Vec<_> = (0..BUYERS)
        .map(|_| {
            let stop = stop.clone();
            std::thread::spawn(move || buyer(listen, &stop))
        })
        .collect();
    for kill in 0..KILLS {
        // Right after an order was made; orders that are answered in time are not waited for.
        while shop.news.try_recv().is_ok() {}
        if shop.news.recv_timeout(Duration::from_secs(20)).is_err() {
            println!("nothing more was ordered after {kill} kills");
            break;
        }
        gate.kill().unwrap();
        gate.wait().unwrap();
        gate = start(&file);
        assert!(shop.count() <= STOCK, "oversold after kill {kill}: {:?}", shop.made.lock().unwrap());
    }
    let sale = || admin_at(control, dir.path(), "GET", "/v1/sales/drop-1", "").json();
    let number = |u: &Value, key: &str| u["units"][key].as_u64().unwrap();
    wait_for("every unit is sold or uncertain", || {
        let u = sale();
        number(&u, "sold") + number(&u, "uncertain") == u64::from(STOCK)
    });
    assert!(shop.count() <= STOCK, "oversold: {:?}", shop.made.lock().unwrap());
    let doubts: Vec<u64> = sale()["uncertain"].as_array().unwrap().iter().map(|d| d["hold"].as_u64().unwrap()).collect();
    let orders = shop.made.lock().unwrap().clone();
    assert!(orders.values().all(|n| *n == 1), "one order a hold: {orders:?}");
    let made = doubts.iter().filter(|d| orders.contains_key(d)).count();
    assert!(made > 0, "a kill hit between order and record: {doubts:?}");
    // The shop's books put it right, hold by hold; what was not ordered can be bought.
    for hold in &doubts {
        let body = format!("{{\"sold\":{}}}", u8::from(orders.contains_key(hold)));
        assert_eq!(admin_at(control, dir.path(), "POST", &format!("/v1/sales/drop-1/holds/{hold}"), &body).status, 200);
    }
    println!("{} orders, {} in doubt after {KILLS} kills, {made} of them made", shop.count(), doubts.len());
    wait_for("the rest is bought", || {
        let u = sale();
        number(&u, "sold") == u64::from(STOCK) || crowd.iter().all(|t| t.is_finished())
    });
    stop.store(true, Ordering::Relaxed);
    crowd.into_iter().for_each(|t| t.join().unwrap());
    let u = sale();
    assert_eq!(number(&u, "sold"), u64::from(shop.count()), "the gate knows every order: {u}");
    assert!(shop.count() <= STOCK && number(&u, "over") == 0, "{u}");
    gate.kill().unwrap();
    gate.wait().unwrap();
}
