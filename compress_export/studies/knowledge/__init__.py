"""`study knowledge`: what each share of a teacher's hidden states is worth to a student."""

from compress_export.studies.knowledge.study import KnowledgeGrid, study_knowledge

__all__ = ["KnowledgeGrid", "study_knowledge"]
