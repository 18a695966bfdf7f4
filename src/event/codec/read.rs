//! Records of our own schemas, read straight from their bytes into their structs.
//!
//! Avro's binary form names nothing and has no marks: fields stand in the schema's order, which is the structs' (by a
//! test). So a struct is a run of values, an option is null or the other type of its union, and an enum is the place of
//! its symbol. Schemas that say it otherwise than ours are read by Avro's own library.

use std::fmt;

use serde::de::value::U32Deserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, SeqAccess, Visitor};

use super::{DecodeError, MAX_ALLOCATION_BYTES};

/// Reads the whole of `body`.
pub(super) fn read<R: DeserializeOwned>(body: &[u8]) -> Result<R, DecodeError> {
    let mut input = Input { left: body };
    match R::deserialize(&mut input) {
        Err(Fault::Truncated) => Err(DecodeError::Truncated),
        Err(Fault::Invalid(why)) => Err(DecodeError::Invalid(why)),
        Ok(_) if !input.left.is_empty() => Err(DecodeError::TrailingBytes(input.left.len())),
        Ok(record) => Ok(record),
    }
}

/// Why bytes are not the record.
#[derive(Debug)]
enum Fault {
    /// They end too early.
    Truncated,
    /// They mean nothing.
    Invalid(String),
}

impl Fault {
    fn invalid<T>(why: impl fmt::Display) -> Result<T, Self> {
        Err(Self::Invalid(why.to_string()))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("it ends too early"),
            Self::Invalid(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(why: T) -> Self {
        Self::Invalid(why.to_string())
    }
}

/// The bytes that are left.
struct Input<'de> {
    left: &'de [u8],
}

impl<'de> Input<'de> {
    fn byte(&mut self) -> Result<u8, Fault> {
        let (first, left) = self.left.split_first().ok_or(Fault::Truncated)?;
        self.left = left;
        Ok(*first)
    }

    /// A number in zigzag form, seven bits a byte, least significant first.
    fn long(&mut self) -> Result<i64, Fault> {
        let mut zigzag = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            zigzag |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed());
            }
        }
        Fault::invalid("a number is longer than 64 bits")
    }

    fn text(&mut self) -> Result<&'de str, Fault> {
        let length = self.long()?;
        let length = match usize::try_from(length) {
            Ok(length) if length <= MAX_ALLOCATION_BYTES => length,
            Ok(_) | Err(_) => return Fault::invalid(format_args!("a text can't be {length} bytes long")),
        };
        let (text, left) = self.left.split_at_checked(length).ok_or(Fault::Truncated)?;
        self.left = left;
        std::str::from_utf8(text).or_else(Fault::invalid)
    }
}

impl<'de> de::Deserializer<'de> for &mut Input<'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Fault> {
        Fault::invalid("our records don't hold such values")
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.byte()? {
            0 => visitor.visit_bool(false),
            1 => visitor.visit_bool(true),
            other => Fault::invalid(format_args!("{other} is no truth value")),
        }
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_i32(i32::try_from(self.long()?).or_else(Fault::invalid)?)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_i64(self.long()?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_borrowed_str(self.text()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.long()? {
            0 => visitor.visit_none(),
            1 => visitor.visit_some(self),
            other => Fault::invalid(format_args!("a union of two types has none at {other}")),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        symbols: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let place = self.long()?;
        match u32::try_from(place) {
            Ok(place) if (place as usize) < symbols.len() => {
                let place: U32Deserializer<Fault> = place.into_deserializer();
                visitor.visit_enum(place)
            }
            Ok(_) | Err(_) => Fault::invalid(format_args!("{name} has no symbol at {place}")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_seq(Fields { input: self, left: fields.len() })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_seq(Items { input: self, block: 0, ended: false })
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct newtype_struct tuple
        tuple_struct map identifier ignored_any
    }
}

/// The fields of a struct, one after the other.
struct Fields<'i, 'de> {
    input: &'i mut Input<'de>,
    left: usize,
}

impl<'de> SeqAccess<'de> for Fields<'_, 'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(&mut *self.input).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// The items of a list, which comes in blocks and ends with an empty one.
struct Items<'i, 'de> {
    input: &'i mut Input<'de>,
    /// Items that are left of the block.
    block: u64,
    ended: bool,
}

impl<'de> SeqAccess<'de> for Items<'_, 'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        if self.block == 0 && !self.ended {
            let count = self.input.long()?;
            if count < 0 {
                // Behind a negative count stands how many bytes the block has, for those who skip it.
                self.input.long()?;
            }
            (self.block, self.ended) = (count.unsigned_abs(), count == 0);
        }
        if self.ended {
            return Ok(None);
        }
        self.block -= 1;
        seed.deserialize(&mut *self.input).map(Some)
    }
}
