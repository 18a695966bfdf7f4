-- One conversation per order; it is named by the order. Times of the order's events, so that a repeated
-- event changes nothing.
CREATE TABLE conversations (
    tenant_id        TEXT   NOT NULL,
    order_id         TEXT   NOT NULL,
    kind             TEXT   NOT NULL CHECK (kind IN ('order', 'dispute')),
    order_number     BIGINT,
    payment_id       TEXT,
    payment_status   TEXT,
    payment_method   TEXT,
    payment_minor    BIGINT,
    payment_currency TEXT,
    payment_at       BIGINT,
    opened_at        BIGINT NOT NULL,
    updated_at       BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, order_id)
);

-- Who takes part, and (sealed for that person) how to reach them.
CREATE TABLE conversation_participants (
    tenant_id TEXT   NOT NULL,
    order_id  TEXT   NOT NULL,
    role      TEXT   NOT NULL CHECK (role IN ('buyer', 'seller', 'moderator')),
    user_id   TEXT   NOT NULL,
    contact   BLOB,
    joined_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, order_id, role, user_id)
);

-- What was said. The body is sealed for person_id, or for the tenant where that is null.
CREATE TABLE conversation_messages (
    tenant_id   TEXT   NOT NULL,
    order_id    TEXT   NOT NULL,
    message_id  TEXT   NOT NULL,
    event_id    TEXT   NOT NULL,
    event_type  TEXT   NOT NULL,
    fact        TEXT   NOT NULL,
    status_fact TEXT,
    person_id   TEXT,
    locale      TEXT   NOT NULL,
    body        BLOB   NOT NULL,
    occurred_at BIGINT NOT NULL,
    created_at  BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, order_id, message_id)
);

-- The tracking records of an order, and so of its conversation.
CREATE TABLE shipments (
    tenant_id          TEXT   NOT NULL,
    order_id           TEXT   NOT NULL,
    tracking_number    TEXT   NOT NULL,
    carrier            TEXT,
    tracking_url       TEXT,
    status             TEXT   NOT NULL,
    estimated_delivery BIGINT,
    updated_at         BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, order_id, tracking_number)
);

-- One row per event, recipient and channel: told, or why not.
CREATE TABLE notifications (
    tenant_id       TEXT   NOT NULL,
    notification_id TEXT   NOT NULL,
    order_id        TEXT   NOT NULL,
    event_id        TEXT   NOT NULL,
    event_type      TEXT   NOT NULL,
    fact            TEXT   NOT NULL,
    status_fact     TEXT,
    role            TEXT   NOT NULL,
    recipient       TEXT,
    channel         TEXT   NOT NULL,
    category        TEXT   NOT NULL,
    template        TEXT   NOT NULL,
    locale          TEXT   NOT NULL,
    outcome         TEXT   NOT NULL CHECK (outcome IN ('queued', 'suppressed', 'failed', 'sent')),
    reason          TEXT,
    provider_id     TEXT,
    occurred_at     BIGINT NOT NULL,
    decided_at      BIGINT NOT NULL,
    updated_at      BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, notification_id)
);
CREATE INDEX notifications_by_order ON notifications (tenant_id, order_id, occurred_at);

-- A dispute has a stage and a status: two fields. The description is sealed for opened_by.
CREATE TABLE disputes (
    tenant_id    TEXT   NOT NULL,
    order_id     TEXT   NOT NULL,
    dispute_id   TEXT   NOT NULL,
    stage        TEXT   NOT NULL,
    status       TEXT   NOT NULL,
    is_open      BIGINT NOT NULL,
    funds        TEXT,
    opened_by    TEXT,
    reason       TEXT,
    description  BLOB,
    amount_minor BIGINT,
    currency     TEXT,
    moderator_id TEXT,
    opened_at    BIGINT,
    status_at    BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, order_id, dispute_id)
);
CREATE INDEX disputes_open ON disputes (tenant_id, moderator_id) WHERE is_open = 1;

-- Who may be given a dispute.
CREATE TABLE moderators (
    tenant_id TEXT   NOT NULL,
    user_id   TEXT   NOT NULL,
    active    BIGINT NOT NULL,
    capacity  BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, user_id)
);
