-- How far each partition of a group has come, and under whose lease. Keep this table beside whatever your handler writes.
CREATE TABLE IF NOT EXISTS progress (
    grp       text    NOT NULL,
    partition integer NOT NULL,
    epoch     bigint  NOT NULL, -- of the latest owner that has begun
    seq       bigint  NOT NULL, -- of the last message that is done
    PRIMARY KEY (grp, partition)
);

-- The example's effect: an entry for each message, and a balance per account. Nothing here would notice a message that is
-- applied twice: that is the work of the table above.
CREATE TABLE IF NOT EXISTS ledger (
    id        bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account   text    NOT NULL,
    amount    bigint  NOT NULL,
    message   text    NOT NULL, -- the publisher's message id
    partition integer NOT NULL,
    epoch     bigint  NOT NULL,
    seq       bigint  NOT NULL
);

CREATE INDEX IF NOT EXISTS ledger_place ON ledger (partition, seq);

CREATE TABLE IF NOT EXISTS balance (
    account text   PRIMARY KEY,
    amount  bigint NOT NULL
);
