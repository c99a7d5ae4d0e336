BEGIN TRANSACTION;
CREATE TABLE runs (
        run_id TEXT PRIMARY KEY,
        stage TEXT NOT NULL,
        state TEXT NOT NULL DEFAULT 'todo' CHECK (state IN ('todo', 'running', 'done', 'failed')),
        owner TEXT,
        attempt INTEGER NOT NULL DEFAULT 0,
        lease_until REAL,
        progress TEXT,
        fail_kind TEXT,
        message TEXT,
        result TEXT,
        measured TEXT,
        created REAL NOT NULL,
        started REAL,
        ended REAL,
        CHECK ((state = 'running') = (owner IS NOT NULL)),
        CHECK ((state = 'running') = (lease_until IS NOT NULL)),
        CHECK ((state = 'failed') = (fail_kind IS NOT NULL)),
        CHECK ((state = 'done') = (result IS NOT NULL)),
        CHECK ((state IN ('done', 'failed')) = (ended IS NOT NULL))
    ) STRICT;
INSERT INTO "runs" VALUES('r1','tune','done',NULL,1,NULL,NULL,NULL,NULL,'{"outcome":"ok","scores":{"selection":{"primary":0.5}}}','{}',1.79554029043755531e+09,1.79554029043837594e+09,1.79554029043891334e+09);
INSERT INTO "runs" VALUES('r2','tune','failed',NULL,1,NULL,NULL,'error','a defect',NULL,'{"traceback":"..."}',1.79554029043770766e+09,1.79554029043933129e+09,1.79554029043959665e+09);
INSERT INTO "runs" VALUES('r3','tune','todo',NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,1.79554029043776583e+09,NULL,NULL);
CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
INSERT INTO "settings" VALUES('halve/r3','1');
CREATE TABLE studies (
        study_hash TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        text TEXT NOT NULL,
        canonical TEXT NOT NULL,
        created REAL NOT NULL
    ) STRICT;
INSERT INTO "studies" VALUES('2dcf1b1e9a2d8e0f','old','study: old
','{"study":"old"}',1.79554029043705153e+09);
CREATE TABLE study_runs (
        study_hash TEXT NOT NULL REFERENCES studies,
        run_id TEXT NOT NULL REFERENCES runs,
        position INTEGER NOT NULL,
        run TEXT NOT NULL,
        PRIMARY KEY (study_hash, run_id),
        UNIQUE (study_hash, position)
    ) STRICT;
INSERT INTO "study_runs" VALUES('2dcf1b1e9a2d8e0f','r1',0,'{"fold":0,"learning_rate":0.001,"method":{"label":null,"learning_rates":null,"name":"lora","rank":4},"model":{"label":null,"name":"tiny","revision":null},"seed":1,"selection":"fold","split_seed":0,"stage":"tune","task":{"choices":null,"config":null,"dataset":null,"group":null,"id":null,"kind":null,"label":null,"labels":null,"language":"sl","licence":null,"limit":null,"metric":null,"name":"cb","revision":null,"source":null,"splits":null,"template":"pair","test":null,"text":null,"text_pair":null,"train":null},"training":{"batch_size":8,"dropout":null,"epochs":10,"eval_every":null,"max_grad_norm":1.0,"max_length":256,"max_steps":null,"micro_batch":null,"patience":3,"precision":"auto","schedule":"linear","warmup_fraction":0.1,"weight_decay":0.01}}');
INSERT INTO "study_runs" VALUES('2dcf1b1e9a2d8e0f','r2',1,'{"fold":0,"learning_rate":0.001,"method":{"label":null,"learning_rates":null,"name":"lora","rank":4},"model":{"label":null,"name":"tiny","revision":null},"seed":2,"selection":"fold","split_seed":0,"stage":"tune","task":{"choices":null,"config":null,"dataset":null,"group":null,"id":null,"kind":null,"label":null,"labels":null,"language":"sl","licence":null,"limit":null,"metric":null,"name":"cb","revision":null,"source":null,"splits":null,"template":"pair","test":null,"text":null,"text_pair":null,"train":null},"training":{"batch_size":8,"dropout":null,"epochs":10,"eval_every":null,"max_grad_norm":1.0,"max_length":256,"max_steps":null,"micro_batch":null,"patience":3,"precision":"auto","schedule":"linear","warmup_fraction":0.1,"weight_decay":0.01}}');
INSERT INTO "study_runs" VALUES('2dcf1b1e9a2d8e0f','r3',2,'{"fold":0,"learning_rate":0.001,"method":{"label":null,"learning_rates":null,"name":"lora","rank":4},"model":{"label":null,"name":"tiny","revision":null},"seed":3,"selection":"fold","split_seed":0,"stage":"tune","task":{"choices":null,"config":null,"dataset":null,"group":null,"id":null,"kind":null,"label":null,"labels":null,"language":"sl","licence":null,"limit":null,"metric":null,"name":"cb","revision":null,"source":null,"splits":null,"template":"pair","test":null,"text":null,"text_pair":null,"train":null},"training":{"batch_size":8,"dropout":null,"epochs":10,"eval_every":null,"max_grad_norm":1.0,"max_length":256,"max_steps":null,"micro_batch":null,"patience":3,"precision":"auto","schedule":"linear","warmup_fraction":0.1,"weight_decay":0.01}}');
CREATE INDEX runs_by_state ON runs (state);
CREATE TRIGGER done_runs_never_change BEFORE UPDATE ON runs WHEN OLD.state = 'done'
        BEGIN SELECT RAISE(ABORT, 'a run that is done never changes'); END;
CREATE TRIGGER done_runs_never_go BEFORE DELETE ON runs WHEN OLD.state = 'done'
        BEGIN SELECT RAISE(ABORT, 'a run that is done is never deleted'); END;
CREATE TRIGGER runs_keep_their_identity BEFORE UPDATE OF run_id, stage ON runs
        WHEN OLD.run_id <> NEW.run_id OR OLD.stage <> NEW.stage
        BEGIN SELECT RAISE(ABORT, 'a run keeps its identity'); END;
COMMIT;
PRAGMA application_id = 1885434469;
PRAGMA user_version = 1;
