//! Records of our own schemas, written from their structs: the way back of [`read`](super::read).

use std::fmt;

use serde::ser::{self, Impossible, Serialize};

/// Adds `record` to `bytes`, or says why it isn't one of ours.
pub(super) fn write(bytes: &mut Vec<u8>, record: &impl Serialize) -> Result<(), Misfit> {
    record.serialize(&mut Output(bytes))
}

/// A value that our schemas have no type for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Misfit(String);

impl ser::Error for Misfit {
    fn custom<T: fmt::Display>(why: T) -> Self {
        Self(why.to_string())
    }
}

struct Output<'b>(&'b mut Vec<u8>);

impl Output<'_> {
    fn long(&mut self, value: i64) {
        let mut zigzag = (value << 1 ^ value >> 63).cast_unsigned();
        while zigzag > 0x7f {
            self.0.push((zigzag & 0x7f) as u8 | 0x80);
            zigzag >>= 7;
        }
        self.0.push(zigzag as u8);
    }

    fn length(&mut self, length: usize) -> Result<(), Misfit> {
        self.long(i64::try_from(length).map_err(ser::Error::custom)?);
        Ok(())
    }
}

/// Methods for values that no schema of ours has.
macro_rules! strangers {
    ($($method:ident($kind:ty)),*) => {
        $(fn $method(self, _: $kind) -> Result<(), Misfit> {
            Err(Misfit(concat!("our records don't hold a ", stringify!($kind)).to_owned()))
        })*
    };
}

fn stranger<T>(what: &str) -> Result<T, Misfit> {
    Err(Misfit(format!("our records don't hold {what}")))
}

impl ser::Serializer for &mut Output<'_> {
    type Ok = ();
    type Error = Misfit;
    type SerializeSeq = Self;
    type SerializeTuple = Impossible<(), Misfit>;
    type SerializeTupleStruct = Impossible<(), Misfit>;
    type SerializeTupleVariant = Impossible<(), Misfit>;
    type SerializeMap = Impossible<(), Misfit>;
    type SerializeStruct = Self;
    type SerializeStructVariant = Impossible<(), Misfit>;

    fn serialize_bool(self, value: bool) -> Result<(), Misfit> {
        self.0.push(value.into());
        Ok(())
    }

    fn serialize_i32(self, value: i32) -> Result<(), Misfit> {
        self.long(value.into());
        Ok(())
    }

    fn serialize_i64(self, value: i64) -> Result<(), Misfit> {
        self.long(value);
        Ok(())
    }

    fn serialize_str(self, text: &str) -> Result<(), Misfit> {
        self.length(text.len())?;
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Misfit> {
        self.serialize_i64(0)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Misfit> {
        self.long(1);
        value.serialize(self)
    }

    fn serialize_unit_variant(self, _: &'static str, place: u32, _: &'static str) -> Result<(), Misfit> {
        self.serialize_i64(place.into())
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Misfit> {
        Ok(self)
    }

    /// A list is one block and the empty one that ends it, or that one alone.
    fn serialize_seq(self, length: Option<usize>) -> Result<Self, Misfit> {
        match length {
            Some(0) => {}
            Some(length) => self.length(length)?,
            None => return stranger("a list of unknown length"),
        }
        Ok(self)
    }

    strangers!(
        serialize_i8(i8),
        serialize_i16(i16),
        serialize_u8(u8),
        serialize_u16(u16),
        serialize_u32(u32),
        serialize_u64(u64),
        serialize_f32(f32),
        serialize_f64(f64),
        serialize_char(char),
        serialize_bytes(&[u8]),
        serialize_unit_struct(&'static str)
    );

    fn serialize_unit(self) -> Result<(), Misfit> {
        stranger("nothing")
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        _: &T,
    ) -> Result<(), Misfit> {
        stranger(name)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Misfit> {
        stranger(name)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Misfit> {
        stranger("a tuple")
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, Misfit> {
        stranger(name)
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Misfit> {
        stranger(name)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Misfit> {
        stranger("a map")
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Misfit> {
        stranger(name)
    }
}

impl ser::SerializeSeq for &mut Output<'_> {
    type Ok = ();
    type Error = Misfit;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Misfit> {
        value.serialize(&mut **self)
    }

    fn end(self) -> Result<(), Misfit> {
        self.long(0);
        Ok(())
    }
}

impl ser::SerializeStruct for &mut Output<'_> {
    type Ok = ();
    type Error = Misfit;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &'static str, value: &T) -> Result<(), Misfit> {
        value.serialize(&mut **self)
    }

    /// Every field of the schema is written: one that is left out would have those behind it read as itself.
    fn skip_field(&mut self, name: &'static str) -> Result<(), Misfit> {
        Err(ser::Error::custom(format_args!("{name} is left out")))
    }

    fn end(self) -> Result<(), Misfit> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_our_schemas_do_not_have_is_refused() {
        let refused = |outcome: Result<(), Misfit>| outcome.expect_err("it has no type").0;
        let mut bytes = Vec::new();
        assert_eq!(refused(write(&mut bytes, &1.5)), "our records don't hold a f64");
        assert_eq!(refused(write(&mut bytes, &("a", "b"))), "our records don't hold a tuple");
        assert!(bytes.is_empty());
    }

    #[test]
    fn numbers_and_lists_are_those_of_the_specification() {
        let written = |value: &dyn Fn(&mut Vec<u8>) -> Result<(), Misfit>| {
            let mut bytes = Vec::new();
            value(&mut bytes).expect("it is of our kind");
            bytes
        };
        // From the table and the example of the specification.
        for (number, bytes) in [(0, &[0][..]), (-1, &[1]), (1, &[2]), (-64, &[0x7f]), (64, &[0x80, 1])] {
            assert_eq!(written(&|out| write(out, &number)), bytes);
        }
        assert_eq!(written(&|out| write(out, &vec![3i64, 27])), [4, 6, 54, 0]);
        assert_eq!(written(&|out| write(out, &Vec::<i64>::new())), [0]);
        assert_eq!(written(&|out| write(out, &i64::MIN)).len(), 10);
    }
}
