//! A command's arguments.

/// A command's arguments in one allocation.
#[derive(Clone, Debug, Default)]
pub struct Args {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Args {
    /// None, with memory for so many bytes of so many arguments.
    pub fn with_capacity(bytes: usize, count: usize) -> Args {
        Args { bytes: Vec::with_capacity(bytes), ends: Vec::with_capacity(count) }
    }

    /// Copies of these.
    pub fn of(args: &[&[u8]]) -> Args {
        let mut copies = Args::with_capacity(args.iter().map(|arg| arg.len()).sum(), args.len());
        args.iter().for_each(|arg| copies.push(arg));
        copies
    }

    /// Replaces the content.
    pub fn fill<'a>(&mut self, args: impl Iterator<Item = &'a [u8]>) {
        self.clear();
        args.for_each(|arg| self.push(arg));
    }

    /// Adds an argument.
    pub fn push(&mut self, arg: &[u8]) {
        self.bytes.extend_from_slice(arg);
        self.ends.push(self.bytes.len());
    }

    /// Forgets the content, and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// An argument; 0 is the command's name.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        #[cfg(test)]
        work::ARGUMENTS_READ.with(|count| count.set(count.get() + 1));
        let start = if index == 0 { 0 } else { *self.ends.get(index - 1)? };
        self.bytes.get(start..*self.ends.get(index)?)
    }

    /// The number of arguments, with the name.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of memory kept.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Whether they are these.
    pub fn are(&self, others: &[&[u8]]) -> bool {
        self.len() == others.len() && others.iter().enumerate().all(|(index, other)| self.get(index) == Some(other))
    }

    /// Bytes of all arguments.
    pub fn total_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// All arguments, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> + Clone {
        (0..self.ends.len()).filter_map(|index| self.get(index))
    }

    /// All arguments.
    pub fn slices(&self) -> Vec<&[u8]> {
        self.iter().collect()
    }
}

/// How much tests have made the core do.
#[cfg(test)]
pub(crate) mod work {
    use std::cell::Cell;

    thread_local! {
        /// Arguments that were looked at: whatever goes through commands does so by their arguments.
        pub(crate) static ARGUMENTS_READ: Cell<usize> = const { Cell::new(0) };
    }
}
