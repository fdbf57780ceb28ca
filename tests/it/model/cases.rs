//! Generates cases from seeds: valid and invalid requests, often several to the same Upload at once.

use fastrand::Rng;

use super::operations::{Ask, Case, Claim, Declared, Event, Minutes, Name, Paging, Project, Purpose, Request, Round};
use super::reference::{FILE_BYTES, PART_BYTES, UPLOAD_BYTES};

impl Case {
    /// Generates a case; the same seed gives the same case.
    pub fn from_seed(seed: u64) -> Self {
        let mut clients = Clients { rng: Rng::with_seed(seed), next: 0, uploads: Vec::new(), files: Vec::new() };
        let faulty = clients.rng.u8(..100) < 25;
        let rounds = 6 + clients.rng.usize(..9);
        Self { rounds: (0..rounds).map(|_| clients.round(faulty)).collect() }
    }
}

/// The requests generated so far. Their responses are not known here.
struct Clients {
    rng: Rng,
    next: u16,
    uploads: Vec<Plan>,
    files: Vec<(Name, Project)>,
}

/// An Upload, and the sizes and names of the Parts that a client plans for it, in the file's order.
#[derive(Clone)]
struct Plan {
    name: Name,
    by: Project,
    parts: Vec<(usize, Option<Name>)>,
    left_over: Vec<Name>,
}

impl Clients {
    fn round(&mut self, faulty: bool) -> Round {
        // A request refers only to objects of earlier rounds, whose ids may be known.
        let before = (self.uploads.clone(), self.files.clone());
        let young = &before.0[before.0.len().saturating_sub(2)..];
        let theme = if self.rng.u8(..100) < 75 { choose(&mut self.rng, young) } else { None };
        let count = 1 + self.rng.usize(..5).min(3);
        let requests = (0..count).map(|_| self.request(&before.0, &before.1, theme.as_ref())).collect();
        Round { requests, event: self.event(faulty), jump: self.jump() }
    }

    fn event(&mut self, faulty: bool) -> Option<(Event, u64)> {
        let event = match self.rng.u8(..100) {
            0..8 if faulty => Event::Kill,
            8..22 if faulty => Event::Cut,
            22..28 if faulty => Event::SweepKilled,
            28..30 => Event::Sweep,
            _ => return None,
        };
        Some((event, self.rng.u64(..14)))
    }

    fn jump(&mut self) -> Minutes {
        match self.rng.u8(..100) {
            0..6 => 10,
            6..8 => 30,
            8..10 => 50,
            10..12 => 60,
            12..13 => 120,
            13..15 => 8 * 24 * 60,
            _ => 0,
        }
    }

    fn request(&mut self, uploads: &[Plan], files: &[(Name, Project)], theme: Option<&Plan>) -> Request {
        let name = Name(self.next);
        self.next += 1;
        let upload = theme.cloned().or_else(|| choose(&mut self.rng, uploads));
        let by = upload.as_ref().map_or(Project::Own, |it| it.by);
        let ask = match (self.rng.u8(..100), upload) {
            (0..8, _) | (0..70, None) => return self.create_upload(name),
            (30..56, Some(upload)) if upload.is_full() || self.rng.u8(..100) < 30 => self.complete(&upload, uploads),
            (8..56, Some(upload)) => self.add_part(name, &upload),
            (56..59, Some(upload)) => Ask::Cancel(upload.name),
            (59..63, Some(upload)) => Ask::GetUpload(upload.name),
            (63..70, Some(upload)) => Ask::ListParts(upload.name, self.paging(&upload.part_names(), false)),
            (70..74, _) => Ask::ListUploads(self.paging(&uploads.iter().map(|it| it.name).collect::<Vec<_>>(), true)),
            (74..79, _) => return self.create_file(name),
            (79..85, _) => {
                let purpose = self.rng.bool().then(|| self.purpose());
                let names: Vec<_> = files.iter().map(|it| it.0).chain(uploads.iter().map(|it| it.name)).collect();
                Ask::ListFiles(purpose, self.paging(&names, true))
            }
            (_, upload) => return self.ask_for_a_file(name, files, upload),
        };
        Request { name, by: self.mostly(by), ask }
    }

    fn create_upload(&mut self, name: Name) -> Request {
        let by = if self.rng.u8(..100) < 85 { Project::Own } else { Project::Other };
        let parts: Vec<_> = (0..self.rng.usize(..4)).map(|_| (1 + self.rng.usize(..PART_BYTES), None)).collect();
        let bytes = parts.iter().map(|it| it.0).sum();
        let bytes = match self.rng.u8(..100) {
            0..3 => UPLOAD_BYTES + 1,
            3..6 => bytes + 1,
            _ => bytes,
        };
        self.uploads.push(Plan { name, by, parts, left_over: Vec::new() });
        Request { name, by, ask: Ask::CreateUpload(self.declared(bytes)) }
    }

    fn create_file(&mut self, name: Name) -> Request {
        let by = if self.rng.u8(..100) < 85 { Project::Own } else { Project::Other };
        let bytes = if self.rng.u8(..100) < 5 { FILE_BYTES + 1 } else { self.rng.usize(..=FILE_BYTES) };
        self.files.push((name, by));
        Request { name, by, ask: Ask::CreateFile(self.declared(bytes)) }
    }

    /// Adds a planned Part, in any order, or one that is not in the plan.
    fn add_part(&mut self, name: Name, upload: &Plan) -> Ask {
        let truncated = self.rng.u8(..100) < 4;
        let planned = self.uploads.iter_mut().find(|it| it.name == upload.name);
        let open =
            planned.map(|it| (&mut it.left_over, it.parts.iter_mut().filter(|it| it.1.is_none()).collect::<Vec<_>>()));
        let bytes = match (open, self.rng.u8(..100)) {
            (_, 0..2) => 0,
            (_, 2..4) => PART_BYTES + 1,
            (Some((_, mut open)), 4..90) if !open.is_empty() => {
                let at = self.rng.usize(..open.len());
                open[at].1 = Some(name);
                open[at].0
            }
            (Some((left_over, _)), _) => {
                left_over.push(name);
                1 + self.rng.usize(..PART_BYTES)
            }
            (None, _) => 1,
        };
        Ask::AddPart { upload: upload.name, bytes, truncated }
    }

    /// Completes as planned, even if Parts are missing, or sometimes with a list that is wrong in one of many ways.
    fn complete(&mut self, upload: &Plan, uploads: &[Plan]) -> Ask {
        let mut parts: Vec<_> = upload.parts.iter().filter_map(|it| it.1).collect();
        match self.rng.u8(..100) {
            0..10 => self.rng.shuffle(&mut parts),
            10..13 => drop(parts.pop()),
            13..16 => parts.extend(parts.first().copied()),
            16..19 => parts.push(Name::NOTHING),
            19..22 => parts.extend(choose(&mut self.rng, uploads).and_then(|it| it.part_names().pop())),
            22..24 => parts.extend(upload.left_over.first()),
            24..26 => parts.clear(),
            _ => {}
        }
        let md5 = match self.rng.u8(..100) {
            0..20 => Claim::Right,
            20..25 => Claim::Wrong,
            _ => Claim::None,
        };
        Ask::Complete { upload: upload.name, parts, md5 }
    }

    fn ask_for_a_file(&mut self, name: Name, files: &[(Name, Project)], upload: Option<Plan>) -> Request {
        let of_upload = upload.map(|it| (it.name, it.by)).filter(|_| self.rng.bool());
        let file = of_upload.or_else(|| choose(&mut self.rng, files));
        let (file, by) = file.unwrap_or((Name::NOTHING, Project::Own));
        let ask = match self.rng.u8(..15) {
            0..4 => Ask::GetFile(file),
            4..7 => Ask::Download(file, None),
            7..10 => {
                let first = self.rng.usize(..150);
                Ask::Download(file, Some((first, self.rng.bool().then(|| first + self.rng.usize(..150)))))
            }
            _ => Ask::DeleteFile(file),
        };
        Request { name, by: self.mostly(by), ask }
    }

    fn declared(&mut self, bytes: usize) -> Declared {
        let lifetime = match self.rng.u8(..100) {
            0..15 => Some(60),
            15..25 => Some(120),
            _ => None,
        };
        Declared { bytes, purpose: self.purpose(), lifetime }
    }

    fn purpose(&mut self) -> Purpose {
        match self.rng.u8(..10) {
            0..7 => Purpose::UserData,
            7..9 => Purpose::Evals,
            _ => Purpose::Batch,
        }
    }

    fn paging(&mut self, names: &[Name], either_way: bool) -> Paging {
        let after = if self.rng.u8(..100) < 40 { choose(&mut self.rng, names) } else { None };
        let limit = if self.rng.bool() { Paging::ALL.limit } else { 1 + self.rng.usize(..3) };
        Paging { after, limit, descending: either_way && self.rng.bool() }
    }

    /// The project that owns the object, or sometimes the other one.
    fn mostly(&mut self, by: Project) -> Project {
        match (self.rng.u8(..100), by) {
            (0..4, Project::Own) => Project::Other,
            (0..4, Project::Other) => Project::Own,
            _ => by,
        }
    }
}

impl Plan {
    fn is_full(&self) -> bool {
        self.parts.iter().all(|it| it.1.is_some())
    }

    fn part_names(&self) -> Vec<Name> {
        self.parts.iter().filter_map(|it| it.1).chain(self.left_over.iter().copied()).collect()
    }
}

fn choose<T: Clone>(rng: &mut Rng, among: &[T]) -> Option<T> {
    rng.choice(among).cloned()
}
