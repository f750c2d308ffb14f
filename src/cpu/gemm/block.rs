//! Blocks: how a large product is cut so that its parts stay in the caches, and shared out to threads.
//!
//! Knows panels, passes over the inner size, tasks and workspace. Must not know where factors come from.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Sizes;
use super::kernel::{Finish, Flat, Keeping, Kernels, Units};
use super::pack::{Panel, Source};
use crate::cpu::alloc::Block;
use crate::cpu::lane::Lane;
use crate::cpu::par;
use crate::dtype::DType;
use crate::error::Result;

/// Where a product goes: `to = scale * (left right) + from`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<T> {
    /// The first element, of `dtype`, and the steps between rows and between columns.
    pub to: *mut u8,
    pub dtype: DType,
    pub row: usize,
    pub column: usize,
    pub scale: T,
    /// What is added (the target itself, to add to it), with its steps; null for nothing.
    pub from: *const T,
    pub from_row: usize,
    pub from_column: usize,
}

impl<T: Lane> Target<T> {
    /// The same place for the product with rows and columns exchanged.
    pub fn turned(self) -> Self {
        Target {
            row: self.column,
            column: self.row,
            from_row: self.from_column,
            from_column: self.from_row,
            ..self
        }
    }

    /// The same target for sums in `f32`, if `T` is that.
    pub fn single(self) -> Option<Target<f32>> {
        (T::DTYPE == DType::F32).then(|| Target {
            to: self.to,
            dtype: self.dtype,
            row: self.row,
            column: self.column,
            scale: self.scale.to_f64() as f32,
            from: self.from.cast(),
            from_row: self.from_row,
            from_column: self.from_column,
        })
    }
}

/// The inner size of a block of the right factor, in bytes.
const DEEP: usize = 2048;
/// The bytes of the packed left factor at a time.
const LEFT: usize = 16 << 20;
/// The bytes of the right panels of a task: half a second-level cache.
const GROUP: usize = 512 << 10;
/// Left panels up to which a task's right panels are half of that: those that come next lie in the cache too, since packing
/// costs more where there are few rows to use it.
const FEW: usize = 40;
/// The most bytes of a packed right factor that all threads share.
const SHARED: usize = 8 << 20;
/// Tasks per thread: enough to share evenly while somebody else uses the CPU.
const TASKS: usize = 6;
/// The fewest left panels of a task: what makes up for packing the right panels.
const FEWEST: usize = 8;

/// Units between packed left panels, so that those of one inner index do not all fall on the same sets of a cache.
const GAP: usize = 16;

/// `count` things in `parts` ranges of nearly equal length.
pub(super) fn cut(count: usize, parts: usize, index: usize) -> Range<usize> {
    let start = |index: usize| count / parts * index + (count % parts).min(index);
    start(index)..start(index + 1)
}

/// The units of a panel that has room for `width` lanes.
fn packed<U>(start: *const U, width: usize) -> Units<U> {
    Units {
        start,
        lane: 1,
        depth: width,
    }
}

/// How one product is cut.
struct Cuts {
    /// The inner size: blocks in all, and blocks whose left factor is packed at a time.
    depth: usize,
    blocks: usize,
    at_a_time: usize,
    /// Parts of the rows whose left factor is packed at a time.
    parts: usize,
    /// Panels of columns of a task.
    group: usize,
    columns: usize,
    /// Whether there are few left panels.
    few: bool,
}

impl Cuts {
    fn new<U, T>(kernels: &Kernels<U, T>, sizes: Sizes, threads: usize) -> Self {
        let deep = DEEP / size_of::<U>();
        let blocks = sizes.inner.div_ceil(deep).max(1);
        let bytes = sizes.inner.div_ceil(blocks).max(1) * size_of::<U>();
        let at_a_time = blocks.min(8);
        let rows = LEFT / (bytes * at_a_time);
        let panels = sizes.columns.div_ceil(kernels.columns);
        let few = sizes.rows.div_ceil(kernels.packed.len()) <= FEW;
        let group = if few { GROUP / 2 } else { GROUP };
        let most = (group / (bytes * kernels.columns)).max(2);
        // Two at a time, unless that leaves a thread without any.
        let least = if panels < 2 * threads { 1 } else { 2 };
        let group = panels.div_ceil(threads * TASKS).clamp(least, most);
        Cuts {
            depth: sizes.inner,
            blocks,
            at_a_time,
            parts: sizes.rows.div_ceil(rows).max(1),
            group,
            columns: panels,
            few,
        }
    }

    fn block(&self, index: usize) -> Range<usize> {
        cut(self.depth, self.blocks, index)
    }

    /// The rooms of a product, whose left factor may have to be packed.
    fn rooms<U, T>(
        &self,
        kernels: &Kernels<U, T>,
        sizes: Sizes,
        threads: usize,
        (packs, shared): (bool, bool),
    ) -> Rooms {
        let panel = usize::from(packs) * (kernels.rows * self.deepest() + GAP);
        if shared {
            let panels = panels_of(sizes.rows, kernels.packed.len()).0;
            return Rooms {
                first: self.columns * kernels.columns * sizes.inner,
                each: panels.div_ceil(tasks_of(panels, threads)) * panel,
            };
        }
        let rows = sizes.rows.div_ceil(self.parts);
        Rooms {
            first: rows.div_ceil(kernels.packed.len()) * panel * self.at_a_time,
            each: self.group * kernels.columns * self.deepest(),
        }
    }

    /// Whether a right factor that has to be turned is better packed once for all threads than by each for its own rows.
    fn shares<U, T>(&self, kernels: &Kernels<U, T>, sizes: Sizes, threads: usize) -> bool {
        let bytes = (self.columns * kernels.columns).saturating_mul(sizes.inner * size_of::<U>());
        let panels = sizes.rows.div_ceil(kernels.packed.len());
        bytes <= SHARED && panels >= 2 * threads * FEWEST
    }

    /// The inner size of the largest block.
    fn deepest(&self) -> usize {
        self.depth.div_ceil(self.blocks)
    }
}

/// The left factor of a product.
pub(super) enum Left<'a, U> {
    /// A source, to be packed.
    Packed(&'a dyn Source<U>),
    /// Units that micro-kernels read where they lie, the rows as lanes.
    Straight(Units<U>),
}

/// What the threads of a product share.
struct Job<'a, U: 'static, T: 'static> {
    kernels: &'a Kernels<U, T>,
    sizes: Sizes,
    right: &'a dyn Source<U>,
    target: Target<T>,
    /// Numbers that hold the sums between passes, and their step between rows.
    between: (*mut T, usize),
    cuts: Cuts,
    /// The left factor where it lies, if it need not be packed.
    straight: Option<Units<U>>,
    /// The packed left factor, and the room of each worker for packed right panels; or the packed right factor, and the room of
    /// each worker for left panels.
    left: *mut U,
    room: *mut U,
}

/// Units that are shared, and those of each worker.
struct Rooms {
    first: usize,
    each: usize,
}

/// The panels of so many rows, and the rows of one, at most `most`.
fn panels_of(rows: usize, most: usize) -> (usize, usize) {
    let panels = rows.div_ceil(most).max(1);
    let height = rows.div_ceil(panels).max(1);
    (rows.div_ceil(height), height)
}

/// The parts of the rows that threads take where all share the packed right factor.
fn tasks_of(panels: usize, threads: usize) -> usize {
    (threads * TASKS).min(panels.div_ceil(FEWEST / 2)).max(1)
}

/// A right factor as it lies, and the micro-kernels that read it so.
type Kept<'a, U, T> = (Flat, &'a [Keeping<U, T>]);

/// What a worker computes at a time: a block of the inner size, for some panels of rows and of columns.
struct Part<'a, U> {
    /// The rows that the panels are cut from.
    rows: &'a Range<usize>,
    /// Where the first of all these panels lies or would lie, if the left factor is packed.
    left: *const U,
    block: usize,
    panels: Range<usize>,
    group: Range<usize>,
    /// The block and the group whose right panels come next, to be on their way meanwhile.
    after: Option<(usize, Range<usize>)>,
}

// SAFETY: workers read the packed left factor and write rooms and tiles of their own.
unsafe impl<U, T> Sync for Job<'_, U, T> {}

/// The product of two sources. `threads` may be 1 to stay on this one.
///
/// # Safety
/// The sources must have the sizes' lanes and depth (in units), and the target its rows and columns, written by nobody else.
pub(super) unsafe fn multiply<U: Copy, T: Lane>(
    op: &'static str,
    kernels: &Kernels<U, T>,
    sizes: Sizes,
    (left, right): (Left<'_, U>, &dyn Source<U>),
    target: Target<T>,
    threads: usize,
) -> Result<()> {
    let (left, straight) = match left {
        Left::Packed(left) => (Some(left), None),
        Left::Straight(units) => (None, Some(units)),
    };
    let cuts = Cuts::new(kernels, sizes, threads);
    let turned = right.in_place(cuts.block(0), 0).is_none();
    let shared = threads > 1 && turned && cuts.shares(kernels, sizes, threads);
    let rooms = cuts.rooms(kernels, sizes, threads, (left.is_some(), shared));
    let units = rooms
        .first
        .saturating_add(rooms.each.saturating_mul(threads));
    let packed = Block::allocate(op, units.saturating_mul(size_of::<U>()))?;
    let inside = target.dtype == T::DTYPE && target.column == 1;
    let sums = if inside || cuts.blocks == 1 {
        None
    } else {
        let numbers = sizes.rows.saturating_mul(sizes.columns);
        Some(Block::allocate(op, numbers.saturating_mul(size_of::<T>()))?)
    };
    let between = match &sums {
        Some(sums) => (sums.start().cast::<T>(), sizes.columns),
        None => (target.to.cast::<T>(), target.row),
    };
    let start = packed.start().cast::<U>();
    let job = Job {
        kernels,
        sizes,
        right,
        target,
        between,
        straight,
        left: start,
        room: start.wrapping_add(rooms.first),
        cuts,
    };
    if shared {
        // SAFETY: promised by the caller; the rooms have been sized for the whole right factor and a task's left panels.
        unsafe { job.shared(left, threads, rooms.each) };
        return Ok(());
    }
    for part in 0..job.cuts.parts {
        let rows = cut(sizes.rows, job.cuts.parts, part);
        for first in (0..job.cuts.blocks).step_by(job.cuts.at_a_time) {
            let blocks = first..job.cuts.blocks.min(first + job.cuts.at_a_time);
            // SAFETY: promised by the caller; the rooms have been sized for these cuts.
            unsafe {
                if let Some(left) = left {
                    job.pack_left(left, rows.clone(), blocks.clone(), threads);
                }
                job.tasks(rows.clone(), blocks, (threads, rooms.each));
            }
        }
    }
    Ok(())
}

impl<U: Copy, T: Lane> Job<'_, U, T> {
    /// The panels of a part of the rows, and the rows of one.
    fn panels(&self, rows: &Range<usize>) -> (usize, usize) {
        panels_of(rows.len(), self.kernels.packed.len())
    }

    /// The form of left panels of so many rows.
    fn left_form(&self, height: usize) -> Panel {
        Panel {
            lanes: height,
            width: self.kernels.rows,
            gap: GAP,
        }
    }

    /// The units from a packed left panel to the next.
    fn step(&self, depth: &Range<usize>) -> usize {
        self.kernels.rows * depth.len() + GAP
    }

    /// Where a panel of a block lies in the packed left factor.
    fn left_panel(
        &self,
        panels: usize,
        blocks: &Range<usize>,
        block: usize,
        panel: usize,
    ) -> *mut U {
        let (base, depth) = (self.cuts.block(blocks.start).start, self.cuts.block(block));
        let before = (depth.start - base) * self.kernels.rows + (block - blocks.start) * GAP;
        self.left
            .wrapping_add(panels * before + panel * self.step(&depth))
    }

    /// # Safety
    /// As `multiply`.
    unsafe fn pack_left(
        &self,
        left: &dyn Source<U>,
        rows: Range<usize>,
        blocks: Range<usize>,
        threads: usize,
    ) {
        let (panels, height) = self.panels(&rows);
        let groups = panels.div_ceil(FEWEST);
        let small = panels * blocks.len() <= 4 * FEWEST;
        let grain = if threads > 1 && !small { 1 } else { usize::MAX };
        par::ranges(groups * blocks.len(), grain, |items| {
            for item in items {
                let (block, first) = (blocks.start + item / groups, item % groups * FEWEST);
                let start = rows.start + first * height;
                let lanes = start..rows.end.min(start + FEWEST * height);
                let to = self.left_panel(panels, &blocks, block, first);
                let panel = self.left_form(height);
                // SAFETY: promised by the caller; every panel has its own place.
                unsafe { left.pack(self.cuts.block(block), lanes, panel, to) };
            }
        });
    }

    /// # Safety
    /// As `multiply`, with the left factor packed.
    unsafe fn tasks(
        &self,
        rows: Range<usize>,
        blocks: Range<usize>,
        (threads, right_room): (usize, usize),
    ) {
        let panels = self.panels(&rows).0;
        let groups = self.cuts.columns.div_ceil(self.cuts.group);
        let few = groups < 2 * threads;
        let fewest = if few { FEWEST } else { 2 * FEWEST };
        let splits = (threads * TASKS).div_ceil(groups);
        let splits = splits.clamp(1, (panels / fewest).max(1));
        let splits = if threads > 1 { splits } else { 1 };
        let next = AtomicUsize::new(0);
        par::ranges(threads, 1, |workers| {
            for worker in workers {
                let room = self.room.wrapping_add(worker * right_room);
                loop {
                    let task = next.fetch_add(1, Ordering::Relaxed);
                    if task >= groups * splits {
                        break;
                    }
                    let group = |task: usize| cut(self.cuts.columns, groups, task / splits);
                    for block in blocks.clone() {
                        // The task after this one is likely to be the worker's too.
                        let (task_after, after) = if block + 1 < blocks.end {
                            (task, block + 1)
                        } else {
                            (next.load(Ordering::Relaxed), blocks.start)
                        };
                        let part = Part {
                            rows: &rows,
                            left: self.left_panel(panels, &blocks, block, 0),
                            block,
                            panels: cut(panels, splits, task % splits),
                            group: group(task),
                            after: (self.cuts.few && task_after < groups * splits)
                                .then(|| (after, group(task_after))),
                        };
                        // SAFETY: promised by the caller; a room for each worker, and tiles for each task.
                        unsafe { self.task(part, room) };
                    }
                }
            }
        });
    }

    /// Packs all of the right factor, then multiplies it with parts of the rows, whose left panels a worker packs for itself.
    ///
    /// # Safety
    /// As `multiply`, with room for the right factor, and for each worker's left panels.
    unsafe fn shared(&self, left: Option<&dyn Source<U>>, threads: usize, left_room: usize) {
        let (width, columns) = (self.kernels.columns, self.cuts.columns);
        let place = |block: usize, panel: usize| {
            let depth = self.cuts.block(block);
            let before = columns * depth.start + panel * depth.len();
            self.left.wrapping_add(before * width)
        };
        let form = Panel::full(width);
        par::ranges(columns * self.cuts.blocks, 1, |items| {
            for item in items {
                let (block, panel) = (item / columns, item % columns);
                let lanes = self.lanes(&(panel..panel + 1));
                let to = place(block, panel);
                // SAFETY: promised by the caller; every panel has its own place.
                unsafe { self.right.pack(self.cuts.block(block), lanes, form, to) };
            }
        });
        let rows = 0..self.sizes.rows;
        let (panels, height) = self.panels(&rows);
        let (tasks, groups) = (tasks_of(panels, threads), columns.div_ceil(self.cuts.group));
        let next = AtomicUsize::new(0);
        par::ranges(threads, 1, |workers| {
            for worker in workers {
                let room = self.room.wrapping_add(worker * left_room);
                loop {
                    let task = next.fetch_add(1, Ordering::Relaxed);
                    if task >= tasks {
                        break;
                    }
                    let own = cut(panels, tasks, task);
                    for (block, group) in
                        (0..self.cuts.blocks * groups).map(|item| (item / groups, item % groups))
                    {
                        let depth = self.cuts.block(block);
                        if let Some(left) = left.filter(|_| group == 0) {
                            let form = self.left_form(height);
                            let lanes = own.start * height..rows.end.min(own.end * height);
                            // SAFETY: promised by the caller; the room is the worker's.
                            unsafe { left.pack(depth.clone(), lanes, form, room) };
                        }
                        let part = Part {
                            rows: &rows,
                            left: room.wrapping_sub(own.start * self.step(&depth)),
                            block,
                            panels: own.clone(),
                            group: cut(columns, groups, group),
                            after: None,
                        };
                        let (lanes, right) =
                            (self.lanes(&part.group), place(block, part.group.start));
                        for panel in own.clone() {
                            // SAFETY: as promised by the caller; both factors are packed, and the tiles are the task's.
                            unsafe { self.row(&part, panel, (&depth, &lanes), (right, None)) };
                        }
                    }
                }
            }
        });
    }

    /// Packs the right panels of a part and multiplies them with its left ones. Where micro-kernels can read the right factor as
    /// it lies, those of the first left panel pack it.
    ///
    /// # Safety
    /// As `tasks`; `room` must be the worker's.
    unsafe fn task(&self, part: Part<'_, U>, room: *mut U) {
        let width = self.kernels.columns;
        let columns = self.lanes(&part.group);
        let depth = self.cuts.block(part.block);
        let mut place = None;
        if columns.len().is_multiple_of(width) {
            place = self.right.in_place(depth.clone(), columns.start);
        }
        let mut keeping = place.and_then(|flat| Some((flat, self.kernels.keeping(flat.dtype)?)));
        if keeping.is_none() {
            let form = Panel::full(width);
            // SAFETY: the room has been sized for the largest group of panels and the deepest block.
            unsafe { self.right.pack(depth.clone(), columns.clone(), form, room) };
        }
        for panel in part.panels.clone() {
            let keeping = keeping.take();
            // SAFETY: as promised by the caller; the right panels are packed, or get packed by the first left panel.
            unsafe { self.row(&part, panel, (&depth, &columns), (room, keeping)) };
        }
    }

    /// The columns of a group of panels.
    fn lanes(&self, group: &Range<usize>) -> Range<usize> {
        let width = self.kernels.columns;
        group.start * width..self.sizes.columns.min(group.end * width)
    }

    /// The tiles of one left panel.
    ///
    /// # Safety
    /// As `task`, with the right panels of the columns in the room, or kernels that put them there.
    unsafe fn row(
        &self,
        part: &Part<'_, U>,
        panel: usize,
        (depth, columns): (&Range<usize>, &Range<usize>),
        (room, keeping): (*mut U, Option<Kept<'_, U, T>>),
    ) {
        let (width, height) = (self.kernels.columns, self.panels(part.rows).1);
        let row = part.rows.start + panel * height;
        let lanes = row..part.rows.end.min(row + height);
        let (left, kernels) = match self.straight {
            Some(units) => {
                let offset = row * units.lane + depth.start * units.depth;
                let start = units.start.wrapping_add(offset);
                (Units { start, ..units }, self.kernels.strided)
            }
            None => {
                let start = part.left.wrapping_add(panel * self.step(depth));
                (packed(start, self.kernels.rows), self.kernels.packed)
            }
        };
        let kernels = &kernels[lanes.len() - 1];
        let (tiles, before) = (part.group.len(), panel - part.panels.start);
        for (index, column) in columns.clone().step_by(width).enumerate() {
            if let Some((block, group)) = &part.after {
                let (depth, lanes) = (self.cuts.block(*block), self.lanes(group));
                let step = (before * tiles + index, part.panels.len() * tiles);
                self.right.ask(depth, lanes, step);
            }
            let count = width.min(columns.end - column);
            let finish = self.finish(part.block, row, column, count);
            let right = room.wrapping_add(index * width * depth.len());
            // SAFETY: the left panel is packed, the right one too or it lies as the kernels read it, the room of the panel is
            // the worker's, and the tile lies within the target.
            unsafe {
                if let Some((flat, keeping)) = keeping {
                    let flat = flat.lanes_on(index * width);
                    keeping[lanes.len() - 1](depth.len(), left, flat, right, &finish);
                } else {
                    let right = packed(right.cast_const(), width);
                    kernels[usize::from(2 * count > width)](depth.len(), left, right, &finish);
                }
            }
        }
    }

    /// Where a tile's sums go after a block.
    fn finish(&self, block: usize, row: usize, column: usize, columns: usize) -> Finish<T> {
        let (target, (between, step)) = (&self.target, self.between);
        let held = between.wrapping_add(row * step + column);
        let (from, from_row, from_column) = match (block, target.from.is_null()) {
            (0, true) => (std::ptr::null(), 0, 1),
            (0, false) => (
                target
                    .from
                    .wrapping_add(row * target.from_row + column * target.from_column),
                target.from_row,
                target.from_column,
            ),
            _ => (held.cast_const(), step, 1),
        };
        let last = block + 1 == self.cuts.blocks;
        let place = (row * target.row + column * target.column) * target.dtype.size();
        Finish {
            to: if last {
                target.to.wrapping_add(place)
            } else {
                held.cast()
            },
            dtype: if last { target.dtype } else { T::DTYPE },
            row: if last { target.row } else { step },
            column: if last { target.column } else { 1 },
            from,
            from_row,
            from_column,
            scale: target.scale,
            columns,
        }
    }
}
