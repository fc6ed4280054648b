{{/*
The schema is brought to the image's release before the team starts: not by a hook, because hooks run before their own
ConfigMap exists, and block a revert. Replicas that start at once wait for one another in the database.
*/}}
{{- define "elf-team.migration" -}}
- name: migrate
  image: {{ include "elf-team.image" . | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  command:
    - elf
    - db
    - migrate
  securityContext:
    {{- include "elf-team.containerSecurity" . | nindent 4 }}
  envFrom:
    - configMapRef:
        name: {{ include "elf-team.configName" . }}
  env:
    - name: HOME
      value: /data
    - name: ELF_DATABASE_URL_FILE
      value: /run/secrets/elf/ELF_DATABASE_URL
  resources:
    {{- include "elf-team.resources" . | nindent 4 }}
  volumeMounts:
    - name: data
      mountPath: /data
    - name: tmp
      mountPath: /tmp
    - name: migration
      mountPath: /run/secrets/elf
      readOnly: true
{{- end -}}

{{/* The address for the migration, which the team itself does not see. */}}
{{- define "elf-team.migrationVolume" -}}
- name: migration
  projected:
    defaultMode: 288 # 0440; YAML's versions read an octal number differently
    sources:
      - secret:
          name: {{ .Values.migration.secret | quote }}
          items:
            - key: {{ .Values.migration.key | quote }}
              path: ELF_DATABASE_URL
{{- end -}}
