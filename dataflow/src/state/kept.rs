//! The two forms in which state is kept, and state that is brought into one of them beside the task.
//!
//! A checkpoint is read by the program that took it, and its [wire form](Form::Wire) is that of records: the fastest there
//! is, in which a changed type would read something else. A savepoint outlives programs. In its
//! [described form](Form::Described) a value comes with the names and shapes of its fields, so that another version of its
//! type can be read by serde's own rules: fields are found by their names, those that are new need `#[serde(default)]`,
//! those that are gone are passed over, numbers fit while the values do.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_describe::SelfDescribed;
use tidemill_model::key::Key;
use tidemill_model::key_group::KeyGroup;

use crate::engine::snapshot::Form;
use crate::record::{Data, Error, decode_value, encode_value};

impl Form {
    /// A value in this form.
    ///
    /// # Errors
    /// Its type uses something that the form has no room for.
    pub(crate) fn encode<T: Serialize>(self, value: &T) -> Result<Bytes, Error> {
        match self {
            Self::Wire => encode_value(value),
            Self::Described => rmp_serde::to_vec(&SelfDescribed(value))
                .map(Bytes::from)
                .map_err(|error| Error::Encode { record_type: std::any::type_name::<T>(), reason: error.to_string() }),
        }
    }

    /// The value that [`encode`](Self::encode) wrote, perhaps of another version of its type.
    ///
    /// # Errors
    /// The bytes are no such value.
    pub(crate) fn decode<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T, Error> {
        match self {
            Self::Wire => decode_value(bytes),
            Self::Described => {
                let decoded: Result<SelfDescribed<T>, _> = rmp_serde::from_slice(bytes);
                decoded.map(|SelfDescribed(value)| value).map_err(|error| Error::Decode {
                    record_type: std::any::type_name::<T>(),
                    reason: error.to_string(),
                })
            }
        }
    }
}

/// A value of a whole sub-task, out of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KeptValue {
    pub(crate) form: Form,
    pub(crate) bytes: Bytes,
}

impl KeptValue {
    /// What it is.
    ///
    /// # Errors
    /// It is something else.
    pub(crate) fn decode<T: DeserializeOwned>(&self) -> Result<T, Error> {
        self.form.decode(&self.bytes)
    }
}

/// The entries of one key group of a state, out of a snapshot.
#[derive(Debug, Clone)]
pub struct Section {
    pub(crate) form: Form,
    pub(crate) group: KeyGroup,
    /// Among how many groups keys are distributed.
    pub(crate) max_parallelism: u32,
    pub(crate) bytes: Bytes,
}

impl Section {
    /// Whether a key belongs here. It does not if another version of its type has another hash: it would be looked for
    /// elsewhere.
    ///
    /// # Errors
    /// It does not.
    pub(super) fn check<K: Key>(&self, key: &K) -> Result<(), Error> {
        let group = KeyGroup::of(key.key_hash(), self.max_parallelism);
        if group == self.group {
            return Ok(());
        }
        Err(Error::Decode {
            record_type: std::any::type_name::<K>(),
            reason: format!(
                "a key of key group {} belongs to group {} now: a key's type and hash have to stay as they were",
                self.group.0, group.0
            ),
        })
    }
}

/// A value that was set aside at a barrier, to be encoded beside the task.
pub(crate) trait FrozenValue: Send {
    /// The value in this form.
    ///
    /// # Errors
    /// Its type uses something that the form has no room for.
    fn encode(&self, form: Form) -> Result<Bytes, Error>;
}

/// A copy of a value.
pub(crate) struct Frozen<T>(pub(crate) T);

impl<T: Data> FrozenValue for Frozen<T> {
    fn encode(&self, form: Form) -> Result<Bytes, Error> {
        form.encode(&self.0)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use tidemill_model::id::SubtaskIndex;
    use tidemill_model::key_group::KeyGroupRange;

    use super::*;
    use crate::state::{FrozenState, KeyedTable, decode_entries};

    /// Both forms.
    pub(crate) const FORMS: [Form; 2] = [Form::Wire, Form::Described];

    /// What a snapshot has of a state, section by section, each with the number of its entries.
    pub(crate) fn sections(frozen: &dyn FrozenState, form: Form, max_parallelism: u32) -> Vec<(Section, u64)> {
        let section = |(index, (group, _))| {
            let mut bytes = Vec::new();
            let entries = frozen.encode(index, form, &mut bytes).unwrap();
            (Section { form, group, max_parallelism, bytes: bytes.into() }, entries)
        };
        frozen.groups().into_iter().enumerate().map(section).collect()
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    enum Status {
        Open,
        Paid { cents: u32, by: Option<Option<String>> },
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Order {
        amount: u32,
        status: Status,
        lines: BTreeMap<(u8, char), Vec<i128>>,
        note: Option<()>,
    }

    fn orders() -> Vec<Order> {
        let by = [None, Some(None), Some(Some("card".to_owned()))];
        let paid = by.into_iter().map(|by| Status::Paid { cents: 5, by });
        let order = |(amount, status)| Order {
            amount,
            status,
            lines: [((7, 'é'), vec![i128::MIN, 3])].into(),
            note: (amount % 2 == 0).then_some(()),
        };
        (0..).zip(paid.chain([Status::Open])).map(order).collect()
    }

    #[test]
    fn values_come_back_in_either_form() {
        for form in FORMS {
            assert_eq!(form.decode::<Vec<Order>>(&form.encode(&orders()).unwrap()).unwrap(), orders());
            assert_eq!(
                form.decode::<Vec<f64>>(&form.encode(&vec![f64::MIN, -0.0]).unwrap()).unwrap(),
                [f64::MIN, -0.0]
            );
            assert_eq!(form.decode::<Vec<u8>>(&form.encode(&Vec::<u8>::new()).unwrap()).unwrap(), Vec::<u8>::new());
            let bytes = form.encode(&orders()).unwrap();
            assert!((0..bytes.len()).all(|length| form.decode::<Vec<Order>>(&bytes[..length]).is_err()));
        }
    }

    #[test]
    fn a_type_grows_by_the_rules_of_serde() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        enum NewStatus {
            Shipped,
            Paid { by: Option<Option<String>>, cents: u64 },
            Open,
        }

        /// Fields in another order, one gone, one new, one renamed, a wider number.
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct NewOrder {
            status: NewStatus,
            #[serde(default)]
            customer: String,
            #[serde(alias = "amount")]
            total: u64,
        }

        let read: Vec<NewOrder> = Form::Described.decode(&Form::Described.encode(&orders()).unwrap()).unwrap();
        assert_eq!(read.iter().map(|order| order.total).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert!(read.iter().all(|order| order.customer.is_empty()));
        assert_eq!(read[1].status, NewStatus::Paid { by: Some(None), cents: 5 });
        assert_eq!(read[3].status, NewStatus::Open);
    }

    #[test]
    fn a_type_that_does_not_fit_is_an_error_that_says_why() {
        #[derive(Debug, Serialize, Deserialize)]
        struct Other {
            amount: String,
        }

        #[derive(Debug, Serialize, Deserialize)]
        struct Demanding {
            amount: u32,
            customer: String,
        }

        let bytes = Form::Described.encode(&orders()[0]).unwrap();
        let error = Form::Described.decode::<Other>(&bytes).unwrap_err().to_string();
        assert!(error.contains("invalid type: integer `0`, expected a string"), "{error}");
        let error = Form::Described.decode::<Demanding>(&bytes).unwrap_err().to_string();
        assert!(error.contains("missing field `customer`"), "{error}");
    }

    #[test]
    fn a_key_that_belongs_elsewhere_is_an_error_and_not_lost() {
        let mut table = KeyedTable::<u32, u8>::of(&KeyGroupRange::of(SubtaskIndex(0), 1, 16), 16);
        (0..100u32).for_each(|key| table.put(key.key_hash(), &key, 1));
        for (section, _) in sections(table.freeze().as_ref(), Form::Described, 16) {
            decode_entries(&section, |_: u32, _: u8| ()).unwrap();
            let elsewhere = Section { group: KeyGroup((section.group.0 + 1) % 16), ..section };
            let error = decode_entries(&elsewhere, |_: u32, _: u8| ()).unwrap_err().to_string();
            assert!(error.contains("have to stay as they were"), "{error}");
        }
    }
}
