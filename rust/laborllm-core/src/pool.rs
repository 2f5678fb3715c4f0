//! Buffers that are filled again once their last reader has let go of them: fresh pages cost more than filling them.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use arrow_buffer::Buffer;
use bytemuck::Pod;

/// Bytes that idle buffers of one kind may hold together; what exceeds them is freed.
const IDLE: usize = 64 << 20;
/// Elements of a new buffer are a multiple of an eighth of the next power of two, and of this, so that it fits the
/// next batch too, which is seldom as long.
const STEP: usize = 1 << 16;

/// Numbers that are kept in pools: bytes of text, token ids, codes, places.
pub(crate) trait Element: Pod + Send + Sync {
    /// The idle buffers of this kind.
    fn pool() -> &'static Pool<Self>;
}

macro_rules! pooled {
    ($($kind:ty),*) => {$(
        impl Element for $kind {
            fn pool() -> &'static Pool<Self> {
                static POOL: Pool<$kind> = Pool(Mutex::new(Vec::new()));
                &POOL
            }
        }
    )*};
}

pooled!(u8, i32, u32, i64);

/// What careers are printed in.
pub(crate) trait Printable: Element + Default {
    /// Places of titles, counted in elements from the start of their text.
    type Place: Element;
    /// Elements of a title's fragment before its span, and as many behind it.
    const AROUND: usize;

    fn place(at: usize) -> Self::Place;
}

impl Printable for u8 {
    type Place = i64;
    /// The space and the newline.
    const AROUND: usize = 1;

    #[inline(always)]
    fn place(at: usize) -> i64 {
        at as i64
    }
}

impl Printable for i32 {
    type Place = i32;
    const AROUND: usize = 0;

    #[inline(always)]
    fn place(at: usize) -> i32 {
        at as i32
    }
}

/// Idle buffers; their contents are whatever was printed last.
pub(crate) struct Pool<T>(Mutex<Vec<Vec<T>>>);

impl<T: Element> Pool<T> {
    /// A buffer of at least `length` elements: the smallest idle one that fits without wasting three quarters.
    pub fn take(&'static self, length: usize) -> Recycled<T> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |values: &Vec<T>| values.len() >= length && values.len() / 4 <= length + STEP;
        let best = (0..idle.len())
            .filter(|&at| fits(&idle[at]))
            .min_by_key(|&at| idle[at].len());
        let values = match best {
            Some(at) => idle.swap_remove(at),
            None => {
                let step = (length.next_power_of_two() / 8).max(STEP / size_of::<T>());
                vec![T::zeroed(); length.next_multiple_of(step)]
            }
        };
        Recycled {
            values,
            length,
            pool: self,
        }
    }

    fn put_back(&self, values: Vec<T>) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held: usize = idle.iter().map(Vec::len).sum();
        if (held + values.len()) * size_of::<T>() <= IDLE {
            idle.push(values);
        }
    }
}

/// A buffer that goes back to its pool when it is dropped.
pub(crate) struct Recycled<T: Element> {
    values: Vec<T>,
    length: usize,
    pool: &'static Pool<T>,
}

impl<T: Element> Recycled<T> {
    /// An Arrow buffer over the elements, without a copy.
    pub fn into_buffer(self) -> Buffer {
        Buffer::from(bytes::Bytes::from_owner(self))
    }
}

impl<T: Element> Deref for Recycled<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.values[..self.length]
    }
}

impl<T: Element> DerefMut for Recycled<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.values[..self.length]
    }
}

impl<T: Element> AsRef<[u8]> for Recycled<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(self)
    }
}

impl<T: Element> Drop for Recycled<T> {
    fn drop(&mut self) {
        self.pool.put_back(std::mem::take(&mut self.values));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_taken_again_only_after_its_last_reader() {
        static POOL: Pool<i32> = Pool(Mutex::new(Vec::new()));
        let mut first = POOL.take(10);
        first.fill(7);
        let place = first.as_ptr();
        let (buffer, reader) = {
            let buffer = first.into_buffer();
            (buffer.clone(), buffer)
        };
        drop(buffer);
        assert_ne!(POOL.take(10).as_ptr(), place);
        assert_eq!(reader.typed_data::<i32>(), [7; 10]);
        drop(reader);
        let idle: Vec<_> = (0..2).map(|_| POOL.take(STEP / 4)).collect();
        assert!(idle.iter().any(|buffer| buffer.values.as_ptr() == place));
    }

    #[test]
    fn idle_buffers_have_a_bound() {
        static POOL: Pool<u8> = Pool(Mutex::new(Vec::new()));
        let many: Vec<_> = (0..10).map(|_| POOL.take(IDLE / 4)).collect();
        drop(many);
        let held: usize = POOL.0.lock().unwrap().iter().map(Vec::len).sum();
        assert_eq!(held, IDLE);
        drop(POOL.take(2 * IDLE));
        assert_eq!(POOL.0.lock().unwrap().len(), 4);
    }
}
