//! The journal, torn, flipped, full and failed.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::frame::{End, HEADER, PREAMBLE};
use super::record::Line;
use super::recover::{Recovered, recover};
use super::undo::Undo;
use super::*;
use crate::control::assemble::recall;
use crate::naming::{
    BindingSpec, Health, HealthNote, HealthReport, Located, Names, NamesWriter, Network, Networks, Words, parse_binding,
};
use crate::units::PortRange;

mod health;

const ID: u64 = 0x6b1f_0c8e_5d2a_9347;

/// A directory of this test's own, removed with what is in it.
struct Directory(PathBuf);

impl Directory {
    fn new(test: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("sixway-journal-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    /// What is set aside, by the reason for it.
    fn aside(&self) -> Vec<String> {
        let names = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let reason = |name: String| Some(name.strip_prefix("journal.")?.split('-').next()?.to_owned());
        names.filter_map(reason).collect()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn binding(line: &str) -> BindingSpec {
    parse_binding(line.as_bytes(), &mut Words::default()).unwrap().unwrap()
}

/// The container `n`, at the server port `port`.
fn web(n: u16, port: u16) -> BindingSpec {
    binding(&format!("blue tcp - 192.168.50.2:{port} 02:42:0a:02:00:02 10.2.{}.{}:80", n >> 8, n & 255))
}

fn tables() -> (Arc<Names>, NamesWriter) {
    let network = Network { name: "blue".to_owned(), ..Network::default() };
    let networks = Networks::new(vec![network], &[]).unwrap();
    Names::new(Arc::new(networks), &["192.168.50.1".parse().unwrap()], PortRange { first: 20480, last: 59903 })
}

fn lines(mapping: &[Located<BindingSpec>]) -> Vec<String> {
    let mut lines: Vec<String> = mapping.iter().map(|binding| binding.value.to_string()).collect();
    lines.sort();
    lines
}

/// Moves and removals, one container a change: its number, and the port that it gets, if it is to be there.
type Step = (u16, Option<u16>);

fn steps() -> impl Strategy<Value = Vec<Vec<Step>>> {
    let step = (0..6_u16, prop::option::weighted(0.7, 20_480..20_500_u16));
    prop::collection::vec(prop::collection::vec(step, 1..4), 1..6)
}

/// The naive mapping, and the record of each change set.
fn records(sets: &[Vec<Step>]) -> Vec<(String, BTreeMap<u16, u16>)> {
    let mut now = BTreeMap::new();
    let mut done = Vec::new();
    for (nth, set) in sets.iter().enumerate() {
        let last: BTreeMap<u16, Option<u16>> = set.iter().copied().collect();
        let (mut gone, mut put) = (Vec::new(), Vec::new());
        for (&n, &port) in &last {
            gone.extend(now.remove(&n).map(|port| web(n, port)));
            if let Some(port) = port {
                now.insert(n, port);
                put.push(web(n, port));
            }
        }
        done.push((record::change(nth as u64 + 2, 1000 + nth as u64, gone.iter(), put.iter(), &[]), now.clone()));
    }
    done
}

fn expected(mapping: &BTreeMap<u16, u16>) -> Vec<String> {
    let all: Vec<_> = mapping.iter().map(|(&n, &port)| Located { line: 0, value: web(n, port) }).collect();
    lines(&all)
}

/// A file with a frame for each change set, and where each frame ends.
fn file(records: &[(String, BTreeMap<u16, u16>)]) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = frame::preamble(ID).into_bytes();
    frame::put(&mut bytes, ID, 1, record::base(FileMark::of(b"")).as_bytes());
    let mut ends = vec![bytes.len()];
    for (nth, (text, _)) in records.iter().enumerate() {
        frame::put(&mut bytes, ID, nth as u64 + 2, text.as_bytes());
        ends.push(bytes.len());
    }
    (bytes, ends)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 64 }, ..ProptestConfig::default() })]

    /// Wherever the writing stopped: the change sets whose frames are whole, and no part of another.
    #[test]
    fn any_prefix_recovers_to_the_change_sets_that_are_whole(sets in steps(), cut: prop::sample::Index, room in 0..100_usize) {
        let records = records(&sets);
        let (mut bytes, ends) = file(&records);
        let cut = cut.index(bytes.len() + 1);
        bytes.truncate(cut);
        bytes.extend(vec![0; room]);
        let mut recovered = recover(&bytes);
        let whole = ends.iter().filter(|&&end| end <= cut).count();
        prop_assert_eq!(recovered.frames, whole as u64);
        prop_assert_ne!(recovered.end, End::Corrupt);
        let at_an_end = cut == 0 || cut == PREAMBLE || ends.contains(&cut);
        prop_assert_eq!(recovered.end == End::Clean, at_an_end);
        let was = whole.checked_sub(2).map_or(BTreeMap::new(), |last| records[last].1.clone());
        prop_assert_eq!(lines(&recovered.take_mapping(Vec::new())), expected(&was));
    }

    /// A flipped bit is noticed, and what is good before it stays.
    #[test]
    fn any_flipped_bit_is_noticed(sets in steps(), at: prop::sample::Index, bit in 0..8) {
        let records = records(&sets);
        let (mut bytes, ends) = file(&records);
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        let mut recovered = recover(&bytes);
        let good = if at < PREAMBLE { 0 } else { ends.iter().filter(|&&end| end <= at).count() };
        prop_assert_eq!(recovered.frames, good as u64);
        let is_last = ends.len() - good == 1;
        prop_assert_eq!(recovered.end, if is_last { End::Torn } else { End::Corrupt });
        let was = good.checked_sub(2).map_or(BTreeMap::new(), |last| records[last].1.clone());
        prop_assert_eq!(lines(&recovered.take_mapping(Vec::new())), expected(&was));
    }

    /// Whatever is in the file, it is read to its end, and what is good is where it is said to be.
    #[test]
    fn garbage_is_no_journal(mut bytes: Vec<u8>, sets in steps(), place: prop::sample::Index, whole: bool) {
        if whole {
            let (good, _) = file(&records(&sets));
            bytes.splice(0..0, good[..place.index(good.len())].iter().copied());
        }
        let recovered = recover(&bytes);
        prop_assert!(recovered.good <= bytes.len());
        prop_assert!(recovered.end != End::Clean || bytes[recovered.good..].iter().all(|&byte| byte == 0));
    }

    /// Bindings are listed in pieces while change sets come in between, and the sum is the mapping.
    #[test]
    fn a_listing_while_the_mapping_changes_adds_up(first in steps(), sets in steps(), pieces in 1..4_u16) {
        let start = records(&first).pop().unwrap().1;
        let mut now = start;
        let mut bytes = frame::preamble(ID).into_bytes();
        let mut seq = 0;
        let mut frame = |bytes: &mut Vec<u8>, text: &str| {
            seq += 1;
            frame::put(bytes, ID, seq, text.as_bytes());
        };
        frame(&mut bytes, &record::base(FileMark::default()));
        let size = 6 / pieces + 1;
        for (nth, set) in sets.iter().enumerate() {
            let nth = nth as u16;
            let part = now.iter().filter(|&(&n, _)| n / size == nth);
            frame(&mut bytes, &(record::listed(part.map(|(&n, &port)| (web(n, port), Health::Unknown))) + "@ 1 1\n"));
            let (mut gone, mut put) = (Vec::new(), Vec::new());
            for (n, port) in set.iter().copied().collect::<BTreeMap<u16, Option<u16>>>() {
                gone.extend(now.remove(&n).map(|port| web(n, port)));
                put.extend(port.map(|port| web(n, port)));
                port.into_iter().for_each(|port| _ = now.insert(n, port));
            }
            frame(&mut bytes, &record::change(nth.into(), 5, gone.iter(), put.iter(), &[]));
        }
        let rest = now.iter().filter(|&(&n, _)| usize::from(n / size) >= sets.len());
        frame(&mut bytes, &(record::listed(rest.map(|(&n, &port)| (web(n, port), Health::Unknown))) + &record::complete(9, 7)));
        let mut recovered = recover(&bytes);
        prop_assert_eq!((recovered.end, recovered.complete, recovered.last_change_ms), (End::Clean, true, 7));
        prop_assert_eq!(lines(&recovered.take_mapping(Vec::new())), expected(&now));
    }

    /// However many change sets are taken back, the mapping is what it was before the first of them.
    #[test]
    fn change_sets_are_taken_back(sets in steps(), from: prop::sample::Index) {
        let records = records(&sets);
        let from = from.index(records.len());
        // Wire names may be shared in these steps; each container has its own here.
        let own = |n: u16, port: u16| (n, 20_480 + n * 1000 + port % 1000);
        let to = |mapping: &BTreeMap<u16, u16>| -> Vec<Located<BindingSpec>> {
            mapping.iter().map(|(&n, &port)| own(n, port)).map(|(n, port)| Located { line: 0, value: web(n, port) }).collect()
        };
        let (names, mut writer) = tables();
        let all = || {
            let guard = crate::table::pin();
            let view = names.view(&guard);
            let mut lines: Vec<String> = view.bindings().filter_map(|b| view.spec(b)).map(|spec| spec.to_string()).collect();
            lines.sort();
            lines
        };
        let mut texts = Vec::new();
        let mut before = Vec::new();
        for (nth, (_, mapping)) in records.iter().enumerate() {
            if nth == from {
                before = all();
            }
            let bindings = to(mapping);
            let prepared = writer.prepare_replacement(&bindings).unwrap();
            if nth >= from {
                texts.push(record_of(&prepared));
            }
            prepared.commit();
        }
        let undo = Undo::of(texts.iter().map(String::as_str));
        writer.apply(&undo.puts, &undo.deletes).unwrap();
        prop_assert_eq!(all(), before);
    }
}

#[test]
fn every_line_reads_as_it_was_written() {
    for line in [
        "blue tcp 02:00:00:00:00:02 192.168.50.2:20480 02:42:0a:02:00:02 10.2.0.2:80 weight=2 standby drain id=r1",
        "blue any - 192.168.50.1:20736-20991 - 10.1.0.2:* native",
        "blue any - 192.168.50.1:21248-21503 - 10.1.0.2:20736-20991",
        "blue udp - [fd00::1]:20481 - [fd00::9]:4500 public=[2001:db8::1]:4500",
        "blue esp - 192.168.50.2 - 203.0.113.9 public=203.0.113.9",
    ] {
        let spec = binding(line);
        let (server, binding) = (spec.server_ip, spec.exact_key());
        let note = HealthNote { state: Health::Unhealthy, before: Health::Healthy, server, binding };
        let text = record::change(3, 4, [&spec].into_iter(), [&spec].into_iter(), std::slice::from_ref(&note));
        let read: Vec<_> = text.lines().map(|line| record::read(line.as_bytes(), &mut Words::default())).collect();
        let (generation, at_ms) = (3, 4);
        let lines = [Line::Change { generation, at_ms }, Line::Gone(spec.clone()), Line::Put(spec), Line::Health(note)];
        assert_eq!(read, lines.map(Some));
    }
    for line in [
        "",
        "+",
        "* x",
        "* ill healthy 192.168.50.2 blue tcp - 10.2.0.2:80",
        "* healthy unknown 192.168.50.2",
        "+ blue",
        "= 1",
        "= 1 zz",
        "@ 1",
        ". 1 x",
        "+ # no binding",
    ] {
        assert_eq!(record::read(line.as_bytes(), &mut Words::default()), None, "{line}");
    }
}

#[test]
fn the_mapping_file_and_the_journal_are_told_apart() {
    let of = |base: &[u8], change_sets, complete, last_change_ms| {
        let mut recovered = recover(b"");
        (recovered.base, recovered.change_sets) = (Some(FileMark::of(base)), change_sets);
        (recovered.complete, recovered.last_change_ms) = (complete, last_change_ms);
        recovered.of_mapping = change_sets;
        recovered
    };
    let chosen = |journal: Recovered, changed_ms| choose(&journal, FileMark::of(b"now"), changed_ms);
    assert_eq!(chosen(of(b"now", 0, false, 0), 5), Choice::Nothing);
    assert_eq!(chosen(of(b"now", 1, false, 9), 5), Choice::Journal);
    assert_eq!(chosen(of(b"now", 1, false, 9), 15), Choice::Journal, "touched, not edited");
    assert_eq!(chosen(of(b"then", 1, true, 9), 15), Choice::File);
    assert_eq!(chosen(of(b"then", 0, true, 9), 5), Choice::JournalOverEdit, "edited before the latest change");
    assert_eq!(chosen(of(b"then", 1, false, 9), 5), Choice::FileForBase);
}

/// A journal, a mapping file and tables: what an engine does with them, without packets.
struct Engine {
    journal: Journal,
    names: Arc<Names>,
    writer: NamesWriter,
}

impl Engine {
    /// Starts as an engine does, and says how many bindings it has.
    fn start(directory: &Directory) -> Engine {
        let mapping = directory.0.join("mapping");
        if !mapping.exists() {
            fs::write(&mapping, format!("{}\n", web(0, 20_480))).unwrap();
        }
        let content = fs::read(&mapping).unwrap();
        let mut start = read_start(&directory.0.join("journal"), &mapping, &content).unwrap();
        let file = crate::naming::parse_mapping(&content).unwrap();
        let recovered = start.recovered().map(|recovered| recovered.take_mapping(file.clone()));
        let bindings = recovered.unwrap_or(file);
        let (names, mut writer) = tables();
        writer.replace(&bindings).unwrap();
        recall(&mut writer, start.health_of(&bindings));
        let journal = start.open(|| names.view(&crate::table::pin()).known_health().collect());
        Engine { journal, names, writer }
    }

    /// A change set by the API, and how to learn what became of it.
    fn put(&mut self, binding: BindingSpec) -> Result<Option<oneshot::Receiver<Outcome>>, String> {
        self.change(&[Located { line: 1, value: binding }], &[])
    }

    /// The same, of the health of the container `n`.
    fn judge(&mut self, n: u16, state: Health) -> Result<Option<oneshot::Receiver<Outcome>>, String> {
        let report = HealthReport::new(web(n, 1).exact_key(), state);
        self.change(&[], &[Located { line: 1, value: report }])
    }

    fn change(
        &mut self,
        puts: &[Located<BindingSpec>],
        health: &[Located<HealthReport>],
    ) -> Result<Option<oneshot::Receiver<Outcome>>, String> {
        let prepared = self.writer.prepare_with_health(puts, &[], health).unwrap();
        let text = record_of(&prepared);
        let room = self.journal.reserve(&text)?;
        let change = prepared.commit();
        self.journal.append(room, text, change.generation, change.is_of_mapping());
        Ok(self.journal.outcome())
    }

    /// What is known of the containers, in their order.
    fn known(&self) -> Vec<(u32, Health)> {
        let guard = crate::table::pin();
        let view = self.names.view(&guard);
        let mut known: Vec<_> =
            view.known_health().map(|note| (note.binding.ip.v4_bits() & 0xffff, note.state)).collect();
        known.sort_by_key(|(n, _)| *n);
        known
    }

    /// As the control thread does it, until `outcome` is there.
    fn wait(&mut self, outcome: Option<oneshot::Receiver<Outcome>>) -> Outcome {
        let Some(mut outcome) = outcome else { return Ok(()) };
        let mut news = self.journal.news();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        loop {
            if let Some(failed) = self.journal.settle() {
                let undo = Undo::of(failed.texts());
                self.writer.prepare_with_health(&undo.puts, &undo.deletes, &undo.health).unwrap().commit();
                failed.answer();
            }
            match outcome.try_recv() {
                Ok(outcome) => return outcome,
                Err(_) => runtime.block_on(news.wait()),
            }
        }
    }

    /// Has the journal replaced.
    fn snapshot(&mut self) {
        let before = self.journal.snapshots();
        self.journal.begin_snapshot();
        let guard = crate::table::pin();
        let view = self.names.view(&guard);
        self.journal
            .piece(record::listed(view.bindings().filter_map(|binding| Some((view.spec(binding)?, binding.health())))));
        self.journal.end_snapshot(view.generation());
        let mut news = self.journal.news();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        while self.journal.snapshots() == before {
            runtime.block_on(news.wait());
        }
    }

    fn len(&self) -> usize {
        self.names.len()
    }
}

/// Changes are there after a restart, before and after the journal was replaced, without a clean stop too.
#[test]
fn what_was_accepted_is_there_after_a_restart() {
    let directory = Directory::new("restart");
    let mut engine = Engine::start(&directory);
    assert!(!directory.0.join("journal").exists(), "nothing changed, nothing written");
    let outcome = engine.put(web(1, 20_481)).unwrap();
    engine.wait(outcome).unwrap();
    let report = engine.journal.report();
    assert_eq!((report.change_sets, report.complete), (1, false));
    let copy = fs::read(directory.0.join("journal")).unwrap();
    assert_eq!(recover(&copy).change_sets, 1, "before any clean stop");
    drop(engine);

    let mut engine = Engine::start(&directory);
    assert_eq!(engine.len(), 2);
    assert!(engine.journal.is_due());
    let under_way = engine.put(web(2, 20_482)).unwrap();
    engine.snapshot();
    engine.wait(under_way).unwrap();
    assert!(!engine.journal.is_due() && engine.journal.report().complete);
    let outcome = engine.put(web(3, 20_483)).unwrap();
    engine.wait(outcome).unwrap();
    drop(engine);
    assert_eq!(Engine::start(&directory).len(), 4);
    assert_eq!(directory.aside(), [""; 0]);
}

#[test]
fn an_edited_mapping_file_wins_and_the_journal_is_set_aside() {
    let directory = Directory::new("edited");
    let mut engine = Engine::start(&directory);
    for n in 1..4 {
        let outcome = engine.put(web(n, 20_480 + n)).unwrap();
        engine.wait(outcome).unwrap();
    }
    drop(engine);
    let mapping = directory.0.join("mapping");
    let edited = format!("{}\n{}\n", web(0, 20_480), web(9, 20_489));
    // The clock of files is coarser than ours.
    while fs::metadata(&mapping).unwrap().ctime() as u64 * 1000 + 1500 > now_ms() {
        std::thread::yield_now();
    }
    fs::write(&mapping, edited).unwrap();
    assert_eq!(Engine::start(&directory).len(), 2);
    assert_eq!(directory.aside(), ["superseded"]);
    assert_eq!(Engine::start(&directory).len(), 2);
}

#[test]
fn a_reload_begins_anew() {
    let directory = Directory::new("reload");
    let mut engine = Engine::start(&directory);
    let outcome = engine.put(web(1, 20_481)).unwrap();
    engine.wait(outcome).unwrap();
    let content = fs::read(directory.0.join("mapping")).unwrap();
    engine.writer.replace(&crate::naming::parse_mapping(&content).unwrap()).unwrap();
    let rebased = engine.journal.rebase(FileMark::of(&content), &[]);
    // At once, before the former one is gone.
    let outcome = engine.put(web(2, 20_482)).unwrap();
    engine.wait(Some(rebased)).unwrap();
    engine.wait(outcome).unwrap();
    drop(engine);
    let engine = Engine::start(&directory);
    assert_eq!(engine.len(), 2);
    let guard = crate::table::pin();
    let view = engine.names.view(&guard);
    assert!(view.bindings().all(|binding| binding.ip() != web(1, 1).ip), "the reload took it away");
}

#[test]
fn what_was_torn_is_cut_off_and_kept() {
    let directory = Directory::new("torn");
    let mut engine = Engine::start(&directory);
    for n in 1..3 {
        let outcome = engine.put(web(n, 20_480 + n)).unwrap();
        engine.wait(outcome).unwrap();
    }
    drop(engine);
    let path = directory.0.join("journal");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 10]).unwrap();
    let mut engine = Engine::start(&directory);
    assert_eq!((engine.len(), directory.aside()), (2, vec!["torn".to_owned()]));
    let outcome = engine.put(web(3, 20_483)).unwrap();
    engine.wait(outcome).unwrap();
    drop(engine);
    assert_eq!(recover(&fs::read(&path).unwrap()).end, End::Clean);
    assert_eq!(Engine::start(&directory).len(), 3);
}

#[test]
fn what_is_corrupt_is_kept_and_so_is_all_that_is_good_before_it() {
    let directory = Directory::new("corrupt");
    let mut engine = Engine::start(&directory);
    for n in 1..4 {
        let outcome = engine.put(web(n, 20_480 + n)).unwrap();
        engine.wait(outcome).unwrap();
    }
    drop(engine);
    let path = directory.0.join("journal");
    let mut bytes = fs::read(&path).unwrap();
    let frames = frame::find(&bytes).texts;
    bytes[frames[2].start + 5] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let mut engine = Engine::start(&directory);
    assert_eq!((engine.len(), directory.aside()), (2, vec!["corrupt".to_owned()]), "the file's, and the first change");
    let at = frames[2].start - HEADER;
    let said = engine.journal.report().last_error.unwrap();
    assert!(said.contains(&format!("corrupt at byte {at}")) && said.contains("journal"), "{said}");
    let refused = engine.put(web(5, 20_485)).expect_err("not before there is a good journal");
    assert!(refused.contains("corrupt"), "{refused}");
    engine = Engine::start(&directory);
    assert_eq!(engine.len(), 2, "and if it ends before: the same again");
    engine.snapshot();
    let outcome = engine.put(web(5, 20_485)).unwrap();
    engine.wait(outcome).unwrap();
    drop(engine);
    assert_eq!(Engine::start(&directory).len(), 3);
}

#[test]
fn what_the_disk_does_not_take_is_taken_back() {
    let directory = Directory::new("failed");
    let mut engine = Engine::start(&directory);
    let outcome = engine.put(web(1, 20_481)).unwrap();
    engine.wait(outcome).unwrap();
    engine.journal.fail_next();
    let outcomes: Vec<_> = (2..5).filter_map(|n| engine.put(web(n, 20_480 + n)).ok()).collect();
    for outcome in outcomes {
        let why = engine.wait(outcome).expect_err("the disk failed");
        assert!(why.contains("journal") && why.contains("the disk failed"), "{why}");
    }
    assert_eq!(engine.len(), 2);
    let why = engine.put(web(6, 20_486)).expect_err("until the journal is replaced");
    assert!(why.contains("the disk failed"), "{why}");
    assert_eq!(engine.len(), 2);
    assert!(engine.journal.is_due());
    engine.snapshot();
    let outcome = engine.put(web(6, 20_486)).unwrap();
    engine.wait(outcome).unwrap();
    drop(engine);
    assert_eq!(Engine::start(&directory).len(), 3);
}

#[test]
fn two_engines_do_not_share_a_journal() {
    let directory = Directory::new("shared");
    let (mut one, mut other) = (Engine::start(&directory), Engine::start(&directory));
    let outcome = one.put(web(1, 20_481)).unwrap();
    one.wait(outcome).unwrap();
    let refused = other.put(web(2, 20_482)).expect_err("it is the other's");
    assert!(refused.contains("another engine keeps it"), "{refused}");
    drop(one);
    let refused = other.put(web(2, 20_482)).expect_err("it has read another");
    assert!(refused.contains("another engine has written it"), "{refused}");
}

/// The very first write was torn, and what was to follow is reserved room.
#[test]
fn a_torn_first_frame_is_no_damage() {
    let records = records(&[vec![(0, Some(20_480))]]);
    let (mut bytes, ends) = file(&records);
    bytes.truncate(ends[0] - 3);
    bytes.extend([0; 64]);
    let recovered = recover(&bytes);
    assert_eq!((recovered.end, recovered.frames, recovered.good), (End::Torn, 0, PREAMBLE));
}
