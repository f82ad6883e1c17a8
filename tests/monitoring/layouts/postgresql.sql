-- The tables as the earlier code made them, revision by revision: each section adds to the one before.
-- 0001
CREATE TABLE claims (
    window_id VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    state VARCHAR NOT NULL,
    owner VARCHAR NOT NULL,
    started BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    stage VARCHAR NOT NULL,
    attempts INTEGER NOT NULL,
    result TEXT,
    error TEXT NOT NULL,
    PRIMARY KEY (window_id)
);
CREATE UNIQUE INDEX ux_claims_one_running ON claims (model) WHERE state = 'running';
CREATE TABLE decisions (
    window_id VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    time BIGINT NOT NULL,
    action VARCHAR NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (window_id)
);
CREATE INDEX ix_decisions_time ON decisions (time);
CREATE TABLE everfit_layout (
    version INTEGER NOT NULL,
    PRIMARY KEY (version)
);
CREATE TABLE label_conflicts (
    id VARCHAR NOT NULL,
    value TEXT NOT NULL,
    arrived BIGINT NOT NULL,
    source VARCHAR NOT NULL,
    PRIMARY KEY (id, value)
);
CREATE TABLE labels (
    id VARCHAR NOT NULL,
    value TEXT NOT NULL,
    arrived BIGINT NOT NULL,
    source VARCHAR NOT NULL,
    PRIMARY KEY (id)
);
CREATE INDEX ix_labels_arrived ON labels (arrived);
CREATE TABLE policy_states (
    model VARCHAR NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (model)
);
CREATE TABLE predictions (
    id VARCHAR NOT NULL,
    time BIGINT NOT NULL,
    version VARCHAR NOT NULL,
    features TEXT NOT NULL,
    probabilities TEXT NOT NULL,
    latency_ms DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (id)
);
CREATE INDEX ix_predictions_time ON predictions (time, id);
-- 0002
CREATE TABLE request_counts (
    minute BIGINT NOT NULL,
    route VARCHAR NOT NULL,
    version VARCHAR NOT NULL,
    requests BIGINT NOT NULL,
    rows BIGINT NOT NULL,
    client_errors BIGINT NOT NULL,
    server_errors BIGINT NOT NULL,
    PRIMARY KEY (minute, route, version)
);
-- 0003
CREATE TABLE rollout_steps (
    model VARCHAR NOT NULL,
    version VARCHAR NOT NULL,
    number INTEGER NOT NULL,
    time BIGINT NOT NULL,
    move VARCHAR NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (model, version, number)
);
CREATE TABLE shadow_answers (
    id VARCHAR NOT NULL,
    version VARCHAR NOT NULL,
    time BIGINT NOT NULL,
    probabilities TEXT NOT NULL,
    PRIMARY KEY (id, version)
);
CREATE INDEX ix_shadow_answers_time ON shadow_answers (time);
-- 0004
CREATE TABLE recordings (
    since BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (since)
);
