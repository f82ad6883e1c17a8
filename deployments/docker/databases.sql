-- One database for each server; the telemetry's own is made by POSTGRES_DB.
CREATE DATABASE prefect;
CREATE DATABASE mlflow;
